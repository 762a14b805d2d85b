"""The life of one container, broken."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from signal import SIGKILL, Signals
from typing import ClassVar

import anyio
from longshore_core import (
    Attachment,
    BackendError,
    ContainerSpec,
    Exit,
    Found,
    Handle,
    Phase,
)
from longshore_core.testing.reference import (
    Modelled,
)
from longshore_core.testing.reference_world import Record

from tests.conformance.mutants.planting import Broken, model


@model("L1", "the end of `exit 137`")
class CutsCodesToSevenBits(Broken):
    def end(self, container: Modelled, exit_: Exit) -> None:
        code = exit_.code
        super().end(container, exit_ if code is None else replace(exit_, code=code & 0x7F))


@model("L1.2", "the end by SIGTERM")
class TellsSignalsAsCodes(Broken):
    def end(self, container: Modelled, exit_: Exit) -> None:
        number = exit_.signal
        super().end(container, exit_ if number is None else Exit(code=128 + number))


@model("L1.4", "the phase of what was created")
class StartsWhatItCreates(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        handle = await super().create(spec)
        await self.start(handle)
        return handle


@model("L1.5", "its attachment in the survey")
class ForgetsTheAttachment(Broken):
    def found(self, container: Modelled) -> Found:
        return replace(super().found(container), attachment=None)


@model("L1.6", "its end in the survey")
class ForgetsTheEnd(Broken):
    def found(self, container: Modelled) -> Found:
        return replace(super().found(container), exit=None)


@model("L1.7", "the answer to the second start")
class AnswersEachStartAnew(Broken):
    starts = 0

    async def start(self, handle: Handle) -> Attachment:
        self.starts += 1
        return replace(await super().start(handle), addresses=(f"10.0.0.{self.starts}",))


@model("L1.8", "the end of a program that checks COLOUR")
class DropsTheEnvironment(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        return await super().create(replace(spec, env={}))


@model("L2", "what ten who waited were told")
class TellsOneWaiterOnly(Broken):
    told = False

    async def wait(self, handle: Handle) -> Exit:
        end = await super().wait(handle)
        first, self.told = not self.told, True
        return end if first else Exit()


@model("L2.3", "its phase after two waiters were cancelled")
class EndsWithItsWaiter(Broken):
    async def wait(self, handle: Handle) -> Exit:
        try:
            return await super().wait(handle)
        except BaseException:
            self.end(self.containers[handle.id], Exit(signal=SIGKILL))
            raise


@model("L2.4", "was not done within")
class LeavesWaitersWaiting(Broken):
    async def remove(self, handle: Handle) -> None:
        self.containers.pop(handle.id, None)
        self._save()


@model("L3", "the end of one that heeds SIGTERM")
class KillsWhateverTheSignal(Broken):
    async def signal(self, handle: Handle, signal: Signals) -> None:
        await super().signal(handle, SIGKILL)


@model("L3.3", "BackendError: no such process")
class RefusesSignalsToTheDead(Broken):
    async def signal(self, handle: Handle, signal: Signals) -> None:
        container = self.containers.get(handle.id)
        if container is None or container.record.phase is Phase.EXITED:
            raise BackendError("no such process")
        await super().signal(handle, signal)


@model("L4", "no container")
class RemovesOnlyOnce(Broken):
    async def remove(self, handle: Handle) -> None:
        if handle.id not in self.containers:
            raise BackendError(f"no container {handle.id}")
        await super().remove(handle)


@model("L3", "its survey has that still")
class RemovesOnlyInWords(Broken):
    """After any law: what it has made is taken away then, and looked for once more."""

    async def remove(self, handle: Handle) -> None:
        pass


@model("L4.3", "the phase of its neighbour")
class RemovesTheNeighbours(Broken):
    async def remove(self, handle: Handle) -> None:
        for id_ in list(self.containers):
            await super().remove(Handle(id=id_))


@model("L5", "left by removal: process")
class LeavesAProcess(Broken):
    left: list[subprocess.Popen[bytes]]

    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        self.left = [*getattr(self, "left", []), subprocess.Popen(["sleep", "60"])]
        return attachment

    async def close(self) -> None:
        for process in self.left:
            process.kill()
            process.wait()


@model("L5", "left by removal: file")
class LeavesAFile(Broken):
    async def remove(self, handle: Handle) -> None:
        (self.host.state_dir / f"{handle.id}.log").touch()
        await super().remove(handle)


@model("L5", "left by removal: port")
class LeavesAPortOpen(Broken):
    listener: socket.socket | None = None

    async def start(self, handle: Handle) -> Attachment:
        self.listener = self.listener or socket.create_server(("127.0.0.1", 0))
        return await super().start(handle)

    async def close(self) -> None:
        if self.listener is not None:
            self.listener.close()


@model("L6", "its phase after a start that failed")
class SaysThatItRunsWhenItCouldNotStart(Broken):
    async def start(self, handle: Handle) -> Attachment:
        try:
            return await super().start(handle)
        except BackendError:
            self.containers[handle.id].record.phase = Phase.RUNNING
            raise


@model("L6.2", "create raised IndexError")
class CrashesOverArguments(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        assert spec.argv[0]
        return await super().create(spec)


@model("L7", "the phase of what was not started")
class LosesACancelledStart(Broken):
    async def start(self, handle: Handle) -> Attachment:
        container = self.containers[handle.id]
        kept, container.record.phase = container.record.phase, Phase.EXITED
        container.record.exit = Exit()
        await anyio.sleep(0.05)
        container.record.phase, container.record.exit = kept, None
        return await super().start(handle)


@model("L7.2", "left by a create that was cancelled: file")
class LeavesTheDraftOfACancelledCreate(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        draft = self.host.state_dir / "draft"
        draft.touch()
        await anyio.sleep(0.003)
        draft.unlink()
        return await super().create(spec)


@model("L7.3", "it is being removed")
class CannotRepeatARemoval(Broken):
    begun: ClassVar[set[str]] = set()

    async def remove(self, handle: Handle) -> None:
        if handle.id in self.begun:
            raise BackendError("it is being removed")
        self.begun.add(handle.id)
        await anyio.sleep(0.015)
        self.begun.discard(handle.id)
        await super().remove(handle)


@model("L8", "the handles of eight creates")
class MakesOneForEachCreate(Broken):
    count = 0

    async def create(self, spec: ContainerSpec) -> Handle:
        self.count += 1
        number = self.count
        return replace(await super().create(spec), state={"number": number})


@model("L8.2", "not all started")
class RefusesTheSecondWhoStarts(Broken):
    busy = False

    async def start(self, handle: Handle) -> Attachment:
        if self.busy:
            raise BackendError("it is being started")
        self.busy = True
        attachment = await super().start(handle)
        self.busy = False
        return attachment


@model("L8.3", "what six removals were answered")
class RefusesTheSecondWhoRemoves(Broken):
    busy = False

    async def remove(self, handle: Handle) -> None:
        if self.busy:
            raise BackendError("a removal is in progress")
        self.busy = True
        await anyio.sleep(0.001)
        await super().remove(handle)
        self.busy = False


@model("L9.2", "starting what has ended")
class StartsWhatHasEnded(Broken):
    async def start(self, handle: Handle) -> Attachment:
        container = self.containers.get(handle.id)
        if container is not None and container.record.phase is Phase.EXITED:
            self.containers[handle.id] = Modelled(Record(spec=container.record.spec))
        return await super().start(handle)


@model("L9", "the id is taken")
class CreatesWhatHasEndedAnew(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        container = self.containers.get(spec.id)
        if container is not None and container.record.phase is Phase.EXITED:
            raise BackendError("the id is taken")
        return await super().create(spec)


@model("L9.3", "the id was used before")
class KeepsIdsForEver(Broken):
    used: set[str]

    async def create(self, spec: ContainerSpec) -> Handle:
        self.used = getattr(self, "used", set())
        if spec.id in self.used and spec.id not in self.containers:
            raise BackendError("the id was used before")
        self.used.add(spec.id)
        return await super().create(spec)


@model("L9.4", "wait answered .* for what was never started")
class MakesUpAnEnd(Broken):
    async def wait(self, handle: Handle) -> Exit:
        container = self.containers.get(handle.id)
        if container is not None and container.record.phase is Phase.CREATED:
            return Exit()
        return await super().wait(handle)


@model("L11", "the phase of the second")
class CutsIdsShort(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        await super().create(replace(spec, id=spec.id[:28]))
        return Handle(id=spec.id)

    def known(self, handle: Handle) -> Modelled | None:
        return super().known(replace(handle, id=handle.id[:28]))

    async def remove(self, handle: Handle) -> None:
        await super().remove(replace(handle, id=handle.id[:28]))


@model("L12", "create raised OSError: .Errno 28")
class SaysWhatTheDiskSays(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        (self.host.state_dir / spec.id).write_bytes(bytes(4096))
        return await super().create(spec)


@model("L12.2", "create raised OSError: .Errno 24")
class SaysWhatTheKernelSays(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(open(os.devnull, "rb"))
        return await super().create(spec)
