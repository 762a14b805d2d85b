"""Drivers that are broken on purpose, each with the law that it breaks, named beforehand.

Most are the reference driver with one thing changed; the others wrap `fork_exec`, and claim what
it does not do, or leave undone what it claims.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, ClassVar

import anyio
import longshore_forkexec
from longshore_core import (
    Attachment,
    BackendError,
    ContainerSpec,
    Exit,
    Facts,
    Found,
    Handle,
    Host,
    Limit,
    Phase,
    Plug,
)
from longshore_core.abc import AnyPlug, Driver, Runtime
from longshore_core.testing.reference import (
    FACTS,
    Config,
    Modelled,
    ReferenceDriver,
    ReferenceRuntime,
)
from longshore_core.testing.reference_world import Record, world_file
from pydantic import BaseModel


@dataclass(frozen=True, kw_only=True)
class Mutant:
    law: str
    """The id of the law that must catch it."""
    plug: AnyPlug
    needs: Callable[[], bool] = field(default=lambda: True)


MUTANTS: dict[str, Mutant] = {}


def model(law: str, *, facts: Facts = FACTS) -> Callable[[type], type]:
    """Plant a class that takes the reference driver's place."""

    def plant(cls: type[ReferenceDriver]) -> type:
        @asynccontextmanager
        async def open_(config: Config, host: Host) -> AsyncGenerator[Runtime]:
            driver = cls(config, world_file(host.state_dir, host.owner))
            driver.host = host
            yield ReferenceRuntime(driver=driver, facts=facts, clock=driver.clock)
            await driver.close()

        MUTANTS[cls.__name__] = Mutant(law=law, plug=Plug(config=Config, open=open_))
        return cls

    return plant


class Broken(ReferenceDriver):
    host: Host

    async def close(self) -> None:
        """What a mutant may have to clean up after the verdict."""


# Life.


@model("L1")
class CutsCodesToSevenBits(Broken):
    def end(self, container: Modelled, exit_: Exit) -> None:
        code = exit_.code
        super().end(container, exit_ if code is None else replace(exit_, code=code & 0x7F))


@model("L1.2")
class TellsSignalsAsCodes(Broken):
    def end(self, container: Modelled, exit_: Exit) -> None:
        number = exit_.signal
        super().end(container, exit_ if number is None else Exit(code=128 + number))


@model("L1.4")
class StartsWhatItCreates(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        handle = await super().create(spec)
        await self.start(handle)
        return handle


@model("L1.5")
class ForgetsTheAttachment(Broken):
    def found(self, container: Modelled) -> Found:
        return replace(super().found(container), attachment=None)


@model("L1.6")
class ForgetsTheEnd(Broken):
    def found(self, container: Modelled) -> Found:
        return replace(super().found(container), exit=None)


@model("L1.7")
class AnswersEachStartAnew(Broken):
    starts = 0

    async def start(self, handle: Handle) -> Attachment:
        self.starts += 1
        return replace(await super().start(handle), addresses=(f"10.0.0.{self.starts}",))


@model("L1.8")
class DropsTheEnvironment(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        return await super().create(replace(spec, env={}))


@model("L2")
class TellsOneWaiterOnly(Broken):
    told = False

    async def wait(self, handle: Handle) -> Exit:
        end = await super().wait(handle)
        first, self.told = not self.told, True
        return end if first else Exit()


@model("L2.3")
class EndsWithItsWaiter(Broken):
    async def wait(self, handle: Handle) -> Exit:
        try:
            return await super().wait(handle)
        except BaseException:
            self.end(self.containers[handle.id], Exit(signal=SIGKILL))
            raise


@model("L2.4")
class LeavesWaitersWaiting(Broken):
    async def remove(self, handle: Handle) -> None:
        self.containers.pop(handle.id, None)
        self._save()


@model("L3")
class KillsWhateverTheSignal(Broken):
    async def signal(self, handle: Handle, signal: Signals) -> None:
        await super().signal(handle, SIGKILL)


@model("L3.3")
class RefusesSignalsToTheDead(Broken):
    async def signal(self, handle: Handle, signal: Signals) -> None:
        container = self.containers.get(handle.id)
        if container is None or container.record.phase is Phase.EXITED:
            raise BackendError("no such process")
        await super().signal(handle, signal)


@model("L4")
class RemovesOnlyOnce(Broken):
    async def remove(self, handle: Handle) -> None:
        if handle.id not in self.containers:
            raise BackendError(f"no container {handle.id}")
        await super().remove(handle)


@model("L4.3")
class RemovesTheNeighbours(Broken):
    async def remove(self, handle: Handle) -> None:
        for id_ in list(self.containers):
            await super().remove(Handle(id=id_))


@model("L5")
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


@model("L5")
class LeavesAFile(Broken):
    async def remove(self, handle: Handle) -> None:
        (self.host.state_dir / f"{handle.id}.log").touch()
        await super().remove(handle)


@model("L5")
class LeavesAPortOpen(Broken):
    listener: socket.socket | None = None

    async def start(self, handle: Handle) -> Attachment:
        self.listener = self.listener or socket.create_server(("127.0.0.1", 0))
        return await super().start(handle)

    async def close(self) -> None:
        if self.listener is not None:
            self.listener.close()


@model("L6")
class SaysThatItRunsWhenItCouldNotStart(Broken):
    async def start(self, handle: Handle) -> Attachment:
        try:
            return await super().start(handle)
        except BackendError:
            self.containers[handle.id].record.phase = Phase.RUNNING
            raise


@model("L6.2")
class CrashesOverArguments(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        assert spec.argv[0]
        return await super().create(spec)


@model("L7")
class LosesACancelledStart(Broken):
    async def start(self, handle: Handle) -> Attachment:
        container = self.containers[handle.id]
        kept, container.record.phase = container.record.phase, Phase.EXITED
        container.record.exit = Exit()
        await anyio.sleep(0.05)
        container.record.phase, container.record.exit = kept, None
        return await super().start(handle)


@model("L7.2")
class LeavesTheDraftOfACancelledCreate(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        draft = self.host.state_dir / "draft"
        draft.touch()
        await anyio.sleep(0.003)
        draft.unlink()
        return await super().create(spec)


@model("L7.3")
class CannotRepeatARemoval(Broken):
    begun: ClassVar[set[str]] = set()

    async def remove(self, handle: Handle) -> None:
        if handle.id in self.begun:
            raise BackendError("it is being removed")
        self.begun.add(handle.id)
        await anyio.sleep(0.015)
        self.begun.discard(handle.id)
        await super().remove(handle)


@model("L8")
class MakesOneForEachCreate(Broken):
    count = 0

    async def create(self, spec: ContainerSpec) -> Handle:
        self.count += 1
        number = self.count
        return replace(await super().create(spec), state={"number": number})


@model("L8.2")
class RefusesTheSecondWhoStarts(Broken):
    busy = False

    async def start(self, handle: Handle) -> Attachment:
        if self.busy:
            raise BackendError("it is being started")
        self.busy = True
        attachment = await super().start(handle)
        self.busy = False
        return attachment


@model("L8.3")
class RefusesTheSecondWhoRemoves(Broken):
    busy = False

    async def remove(self, handle: Handle) -> None:
        if self.busy:
            raise BackendError("a removal is in progress")
        self.busy = True
        await anyio.sleep(0.001)
        await super().remove(handle)
        self.busy = False


@model("L9.2")
class StartsWhatHasEnded(Broken):
    async def start(self, handle: Handle) -> Attachment:
        container = self.containers.get(handle.id)
        if container is not None and container.record.phase is Phase.EXITED:
            self.containers[handle.id] = Modelled(Record(spec=container.record.spec))
        return await super().start(handle)


@model("L9")
class CreatesWhatHasEndedAnew(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        container = self.containers.get(spec.id)
        if container is not None and container.record.phase is Phase.EXITED:
            raise BackendError("the id is taken")
        return await super().create(spec)


@model("L9.3")
class KeepsIdsForEver(Broken):
    used: set[str]

    async def create(self, spec: ContainerSpec) -> Handle:
        self.used = getattr(self, "used", set())
        if spec.id in self.used and spec.id not in self.containers:
            raise BackendError("the id was used before")
        self.used.add(spec.id)
        return await super().create(spec)


@model("L9.4")
class MakesUpAnEnd(Broken):
    async def wait(self, handle: Handle) -> Exit:
        container = self.containers.get(handle.id)
        if container is not None and container.record.phase is Phase.CREATED:
            return Exit()
        return await super().wait(handle)


@model("L11")
class CutsIdsShort(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        await super().create(replace(spec, id=spec.id[:28]))
        return Handle(id=spec.id)

    def _known(self, handle: Handle) -> Modelled | None:
        return super()._known(replace(handle, id=handle.id[:28]))

    async def remove(self, handle: Handle) -> None:
        await super().remove(replace(handle, id=handle.id[:28]))


# Looking.


@model("F1")
class IsSlowToAnswer(Broken):
    async def survey(self) -> Sequence[Found]:
        await anyio.sleep(1.2)
        return await super().survey()


@model("F2")
class TakesAnEngineThatIsAwayForAnEmptyOne(Broken):
    async def survey(self) -> Sequence[Found]:
        away = self._config.engine_away_file
        return [] if away is not None and away.exists() else await super().survey()


@model("F3")
class OmitsWhatWasOnlyCreated(Broken):
    async def survey(self) -> Sequence[Found]:
        return [each for each in await super().survey() if each.phase is not Phase.CREATED]


@model("F5")
class ReapsWhenItIsAsked(Broken):
    async def survey(self) -> Sequence[Found]:
        found = await super().survey()
        for container in self.containers.values():
            self.end(container, Exit())
        return found


# Recovering.


class Forgets(Broken):
    def _save(self) -> None:
        """Nothing is kept."""


model("R1")(type("ForgetsWhatRuns", (Forgets,), {}))
model("R1.5", facts=replace(FACTS, recovers=False))(type("OutlivesWithoutSaying", (Broken,), {}))


@model("R1.3")
class ForgetsCodesWithTheWorker(Broken):
    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        container = self.containers[handle.id]
        kept, container.record.exit = container.record.exit, None
        self._save()
        container.record.exit = kept
        return attachment


@model("R2.2")
class BringsBackWhatWasRemoved(Broken):
    async def remove(self, handle: Handle) -> None:
        kept, self._file = self._file, None
        await super().remove(handle)
        self._file = kept


@model("R4.2")
class SharesAmongOwners(Broken):
    def __init__(self, config: Config, file: Path) -> None:
        super().__init__(config, file.with_name("world.json"))


@model("R5")
class CrashesOverStrangeHandles(Broken):
    def _known(self, handle: Handle) -> Modelled | None:
        names = {1: "first"}
        assert names[handle.schema]
        return super()._known(handle)


@model("R6")
class KnowsItsHandlesByTheirIdentity(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        self.mine = await super().create(spec)
        return self.mine

    async def start(self, handle: Handle) -> Attachment:
        if handle is not self.mine:
            raise BackendError("that is none of my handles")
        return await super().start(handle)


# Describing itself.


@model("I5", facts=FACTS)
class SaysSomethingElseEachTime(Broken):
    times: ClassVar[list[int]] = []


@model("I6")
class HandsOutHugeHandles(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        return replace(await super().create(spec), state={"all": "x" * 20_000})


@model("N0")
class NamesAnInterfaceThatIsNone(Broken):
    def attachment(self, container: Modelled) -> Attachment:
        return Attachment(image_applied=False, interface="eth0")


@model("T1")
class SwallowsTheOrderToEnd(Broken):
    async def signal(self, handle: Handle, signal: Signals) -> None:
        if signal is not SIGTERM:
            await super().signal(handle, signal)


@asynccontextmanager
async def _open_changing(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    SaysSomethingElseEachTime.times.append(1)
    driver = SaysSomethingElseEachTime(config, world_file(host.state_dir, host.owner))
    facts = replace(FACTS, tty=len(SaysSomethingElseEachTime.times) % 2 == 0)
    yield ReferenceRuntime(driver=driver, facts=facts, clock=driver.clock)


class _Careless(BaseModel):
    colour: str = ""


class _Talkative(BaseModel, extra="forbid"):
    api_token: str = ""


@asynccontextmanager
async def _open_anyhow(_config: Any, host: Host) -> AsyncGenerator[Runtime]:
    driver = ReferenceDriver(Config(), world_file(host.state_dir, host.owner))
    yield ReferenceRuntime(driver=driver, facts=FACTS, clock=driver.clock)


@asynccontextmanager
async def _open_and_leave(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    mark = host.owner.partition("/")[0]
    descriptor, _ = tempfile.mkstemp(prefix=f"{mark}-")
    os.close(descriptor)
    async with _open_anyhow(config, host) as runtime:
        yield runtime


MUTANTS["SaysSomethingElseEachTime"] = Mutant(
    law="I5", plug=Plug(config=Config, open=_open_changing)
)
MUTANTS["TakesUnknownKeys"] = Mutant(law="I2", plug=Plug(config=_Careless, open=_open_anyhow))
MUTANTS["ShowsItsSecrets"] = Mutant(law="I2.2", plug=Plug(config=_Talkative, open=_open_anyhow))
MUTANTS["LeavesATemporaryFile"] = Mutant(law="I4", plug=Plug(config=Config, open=_open_and_leave))

# Over `fork_exec`.


class Wrapped(Driver):
    """`fork_exec`, passed through."""

    def __init__(self, inner: Driver, host: Host) -> None:
        self.inner = inner
        self.host = host

    async def create(self, spec: ContainerSpec) -> Handle:
        return await self.inner.create(spec)

    async def start(self, handle: Handle) -> Attachment:
        return await self.inner.start(handle)

    async def wait(self, handle: Handle) -> Exit:
        return await self.inner.wait(handle)

    async def signal(self, handle: Handle, signal: Signals) -> None:
        await self.inner.signal(handle, signal)

    async def remove(self, handle: Handle) -> None:
        await self.inner.remove(handle)

    async def survey(self) -> Sequence[Found]:
        return await self.inner.survey()


def over_fork_exec(law: str, **facts: Any) -> Callable[[type[Wrapped]], type[Wrapped]]:
    def plant(cls: type[Wrapped]) -> type[Wrapped]:
        @asynccontextmanager
        async def open_(config: Any, host: Host) -> AsyncGenerator[Runtime]:
            quiet = config.model_copy(update={"cgroup": "off"})
            async with longshore_forkexec.open_fork_exec(quiet, host) as runtime:
                declared = replace(runtime.facts, **facts)
                yield Runtime(driver=cls(runtime.driver, host), facts=declared)

        plug = Plug(config=longshore_forkexec.Config, open=open_)
        MUTANTS[cls.__name__] = Mutant(law=law, plug=plug)
        return cls

    return plant


class TakesLimitsAndForgetsThem(Wrapped):
    async def create(self, spec: ContainerSpec) -> Handle:
        return await super().create(replace(spec, limits=type(spec.limits)()))


for _law, _limit in (("M1", Limit.MEMORY), ("M2", Limit.CPU), ("M3", Limit.PIDS)):
    _name = f"ForgetsTheLimitOf{_limit.capitalize()}"
    over_fork_exec(_law, limits=frozenset({_limit}))(type(_name, (TakesLimitsAndForgetsThem,), {}))

for _law, _name in (
    ("S1", "ClaimsImagesAndShowsTheHost"),
    ("S2", "ClaimsImagesAndWritesToTheHost"),
    ("S10", "ClaimsImagesAndSharesTheNetwork"),
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
        if attachment.reach is not None:
            os.chmod(attachment.reach.path, 0o777)
        return attachment


@over_fork_exec("E17.2")
class WritesDownWhatItSees(Wrapped):
    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        if attachment.reach is not None:
            (self.host.state_dir / handle.id / "trace").write_text(f"hush-{self._mark()}")
        return attachment

    def _mark(self) -> str:
        return self.host.owner.partition("/")[0]


@over_fork_exec("S0.5")
class HandsOverTheWorkersEnvironment(Wrapped):
    async def create(self, spec: ContainerSpec) -> Handle:
        return await super().create(replace(spec, env={**os.environ, **spec.env}))
