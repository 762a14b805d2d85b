"""`fork_exec`, broken, or claiming what it is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar

import anyio
from anyio.abc import Process
from anyio.streams.memory import MemoryObjectReceiveStream
from longshore_core import (
    Attachment,
    Chunk,
    ContainerSpec,
    Handle,
    Limit,
    Stream,
    UnixReach,
)
from longshore_core.abc import Running

from tests.conformance.executing import HostExecutor, HostProcess
from tests.conformance.mutants.planting import Wrapped, beside, over_fork_exec


class TakesLimitsAndForgetsThem(Wrapped):
    async def create(self, spec: ContainerSpec) -> Handle:
        return await super().create(replace(spec, limits=type(spec.limits)()))


for _law, _limit, _why in (
    ("M1", Limit.MEMORY, "`oom` of what used three times its memory"),
    ("M2", Limit.CPU, "of a core, and was allowed"),
    ("M3", Limit.PIDS, "it has made .* processes of 16"),
):
    _name = f"ForgetsTheLimitOf{_limit.capitalize()}"
    _class = type(_name, (TakesLimitsAndForgetsThem,), {})
    over_fork_exec(_law, _why, limits=frozenset({_limit}))(_class)

for _law, _name, _why in (
    ("S1", "ClaimsImagesAndShowsTheHost", "it reads .*planted"),
    ("S2", "ClaimsImagesAndWritesToTheHost", "written is on the host"),
    ("S4", "ClaimsImagesAndKeepsAllPrivileges", "its capabilities are"),
    ("S6", "ClaimsImagesAndSharesTheKernelsSettings", "/proc/sys/kernel/panic can be written to"),
    ("S7", "ClaimsImagesAndShowsProcesses", "it sees a process of the host"),
    ("S7.2", "ClaimsImagesAndReachesProcesses", "it can signal a process of the host"),
    ("S8", "ClaimsImagesAndMounts", "it can mount a file system"),
    ("S9", "ClaimsImagesAndShowsEnvironments", "it reads another container's environment"),
    ("S5", "ClaimsImagesAndLeavesSetuidPrograms", "NoNewPrivs: expected"),
    ("S10", "ClaimsImagesAndOpensRawSockets", "a raw socket is not refused"),
    ("S10.2", "ClaimsImagesAndSharesTheNetwork", "one network"),
    ("S10.3", "ClaimsImagesAndFiltersNothing", "the mode of seccomp"),
):
    over_fork_exec(_law, _why, images=True)(type(_name, (Wrapped,), {}))


@over_fork_exec("E1", "its attachment has no reach")
class ClaimsSocketsAndHasNone(Wrapped):
    async def start(self, handle: Handle) -> Attachment:
        return replace(await super().start(handle), reach=None)


@over_fork_exec("L1.9", "what others may do in it")
class LetsEverybodyIn(Wrapped):
    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        if isinstance(attachment.reach, UnixReach):
            os.chmod(attachment.reach.path, 0o777)
        return attachment


@over_fork_exec("L5.4", "remove raised RecursionError")
class RemovesByRecursion(Wrapped):
    fallen: ClassVar[set[str]] = set()

    async def remove(self, handle: Handle) -> None:
        if handle.id not in self.fallen:
            self.fallen.add(handle.id)
            shutil.rmtree(self.host.state_dir / handle.id / "s")
        await super().remove(handle)


@over_fork_exec("L5.4", "its directory for sockets is left by removal")
class LeavesWhatIsNestedDeeply(Wrapped):
    async def remove(self, handle: Handle) -> None:
        sockets, left = self.host.state_dir / handle.id / "s", self.host.state_dir / ".left"
        sockets.rename(left)
        await super().remove(handle)
        sockets.parent.mkdir()
        left.rename(sockets)


@over_fork_exec("E17.2", "it is written in")
class WritesDownWhatItSees(Wrapped):
    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        if isinstance(attachment.reach, UnixReach):
            (self.host.state_dir / handle.id / "trace").write_text(f"hush-{self._mark()}")
        return attachment

    def _mark(self) -> str:
        return self.host.owner.partition("/")[0]


@over_fork_exec("S0.5", "variables of the worker's that it sees")
class HandsOverTheWorkersEnvironment(Wrapped):
    async def create(self, spec: ContainerSpec) -> Handle:
        return await super().create(replace(spec, env={**os.environ, **spec.env}))


# Programs beside PID 1.


@beside("E0.engine", "a program in what was not started")
class StartsInWhatHasEnded(HostExecutor):
    @asynccontextmanager
    async def run(
        self, handle: Handle, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None
    ) -> AsyncGenerator[Running]:
        async with self.attached(handle, argv, env, cwd) as process:
            yield process


@beside("E1.engine", "the code of what was killed")
class TellsSignalsOfProgramsAsTheyAre(HostExecutor):
    def process_of(self, process: Process, chunks: MemoryObjectReceiveStream[Chunk]) -> HostProcess:
        class Raw(HostProcess):
            async def wait(self) -> int:
                return await self.process.wait()

        return Raw(process, chunks)


@beside("E4.engine", "was not done within")
class LeavesInputOpen(HostExecutor):
    def process_of(self, process: Process, chunks: MemoryObjectReceiveStream[Chunk]) -> HostProcess:
        class Open(HostProcess):
            async def send_eof(self) -> None:
                self.closed = True

        return Open(process, chunks)


@beside("E10.engine", "the position of")
class CountsEachStreamByItself(HostExecutor):
    def process_of(self, process: Process, chunks: MemoryObjectReceiveStream[Chunk]) -> HostProcess:
        class Apart(HostProcess):
            async def output(self) -> AsyncIterator[Chunk]:
                at = dict.fromkeys(Stream, 0)
                async for chunk in super().output():
                    yield replace(chunk, offset=at[chunk.stream])
                    at[chunk.stream] += len(chunk.data)

        return Apart(process, chunks)


@beside("E14.engine", "still running after it was left: process")
class LeavesProgramsBehind(HostExecutor):
    async def end(self, process: Process) -> None:
        with anyio.CancelScope(shield=True):
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()


@beside("E15.engine", "nothing was heard for two seconds")
class LetsProgramsOutliveTheirContainer(HostExecutor):
    async def follow(self, handle: Handle, process: Process) -> None:
        """It goes on."""


@beside("E17.engine", "what it sees of both")
class DropsTheDirectory(HostExecutor):
    async def started(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> Process:
        return await super().started(argv, env, None)


@beside("E18.engine", "what it was given")
class SplitsArgumentsAtBlanks(HostExecutor):
    async def started(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> Process:
        words = [*argv[:3], *(piece for word in argv[3:] for piece in word.split())]
        return await super().started(words, env, cwd)
