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


for _law, _limit in (("M1", Limit.MEMORY), ("M2", Limit.CPU), ("M3", Limit.PIDS)):
    _name = f"ForgetsTheLimitOf{_limit.capitalize()}"
    over_fork_exec(_law, limits=frozenset({_limit}))(type(_name, (TakesLimitsAndForgetsThem,), {}))

for _law, _name in (
    ("S1", "ClaimsImagesAndShowsTheHost"),
    ("S2", "ClaimsImagesAndWritesToTheHost"),
    ("S4", "ClaimsImagesAndKeepsAllPrivileges"),
    ("S6", "ClaimsImagesAndSharesTheKernelsSettings"),
    ("S7", "ClaimsImagesAndShowsProcesses"),
    ("S7.2", "ClaimsImagesAndReachesProcesses"),
    ("S8", "ClaimsImagesAndMounts"),
    ("S9", "ClaimsImagesAndShowsEnvironments"),
    ("S5", "ClaimsImagesAndLeavesSetuidPrograms"),
    ("S10", "ClaimsImagesAndOpensRawSockets"),
    ("S10.2", "ClaimsImagesAndSharesTheNetwork"),
    ("S10.3", "ClaimsImagesAndFiltersNothing"),
):
    over_fork_exec(_law, images=True)(type(_name, (Wrapped,), {}))


@over_fork_exec("E1")
class ClaimsSocketsAndHasNone(Wrapped):
    async def start(self, handle: Handle) -> Attachment:
        return replace(await super().start(handle), reach=None)


@over_fork_exec("L1.9")
class LetsEverybodyIn(Wrapped):
    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        if isinstance(attachment.reach, UnixReach):
            os.chmod(attachment.reach.path, 0o777)
        return attachment


@over_fork_exec("L5.4")
class RemovesByRecursion(Wrapped):
    fallen: ClassVar[set[str]] = set()

    async def remove(self, handle: Handle) -> None:
        if handle.id not in self.fallen:
            self.fallen.add(handle.id)
            shutil.rmtree(self.host.state_dir / handle.id / "s")
        await super().remove(handle)


@over_fork_exec("L5.4")
class LeavesWhatIsNestedDeeply(Wrapped):
    async def remove(self, handle: Handle) -> None:
        sockets, left = self.host.state_dir / handle.id / "s", self.host.state_dir / ".left"
        sockets.rename(left)
        await super().remove(handle)
        sockets.parent.mkdir()
        left.rename(sockets)


@over_fork_exec("E17.2")
class WritesDownWhatItSees(Wrapped):
    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        if isinstance(attachment.reach, UnixReach):
            (self.host.state_dir / handle.id / "trace").write_text(f"hush-{self._mark()}")
        return attachment

    def _mark(self) -> str:
        return self.host.owner.partition("/")[0]


@over_fork_exec("S0.5")
class HandsOverTheWorkersEnvironment(Wrapped):
    async def create(self, spec: ContainerSpec) -> Handle:
        return await super().create(replace(spec, env={**os.environ, **spec.env}))


# Programs beside PID 1.


@beside("E0.engine")
class StartsInWhatHasEnded(HostExecutor):
    @asynccontextmanager
    async def run(
        self, handle: Handle, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None
    ) -> AsyncGenerator[Running]:
        async with self.attached(handle, argv, env, cwd) as process:
            yield process


@beside("E1.engine")
class TellsSignalsOfProgramsAsTheyAre(HostExecutor):
    def process_of(self, process: Process, chunks: MemoryObjectReceiveStream[Chunk]) -> HostProcess:
        class Raw(HostProcess):
            async def wait(self) -> int:
                return await self.process.wait()

        return Raw(process, chunks)


@beside("E4.engine")
class LeavesInputOpen(HostExecutor):
    def process_of(self, process: Process, chunks: MemoryObjectReceiveStream[Chunk]) -> HostProcess:
        class Open(HostProcess):
            async def send_eof(self) -> None:
                self.closed = True

        return Open(process, chunks)


@beside("E10.engine")
class CountsEachStreamByItself(HostExecutor):
    def process_of(self, process: Process, chunks: MemoryObjectReceiveStream[Chunk]) -> HostProcess:
        class Apart(HostProcess):
            async def output(self) -> AsyncIterator[Chunk]:
                at = dict.fromkeys(Stream, 0)
                async for chunk in super().output():
                    yield replace(chunk, offset=at[chunk.stream])
                    at[chunk.stream] += len(chunk.data)

        return Apart(process, chunks)


@beside("E14.engine")
class LeavesProgramsBehind(HostExecutor):
    async def end(self, process: Process) -> None:
        with anyio.CancelScope(shield=True):
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()


@beside("E15.engine")
class LetsProgramsOutliveTheirContainer(HostExecutor):
    async def follow(self, handle: Handle, process: Process) -> None:
        """It goes on."""


@beside("E17.engine")
class DropsTheDirectory(HostExecutor):
    async def started(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> Process:
        return await super().started(argv, env, None)


@beside("E18.engine")
class SplitsArgumentsAtBlanks(HostExecutor):
    async def started(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> Process:
        words = [*argv[:3], *(piece for word in argv[3:] for piece in word.split())]
        return await super().started(words, env, cwd)
