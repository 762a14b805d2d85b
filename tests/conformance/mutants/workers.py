"""Looking, recovering and describing itself, broken."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Any, ClassVar

import anyio
from longshore_core import (
    Attachment,
    BackendError,
    ContainerSpec,
    Exit,
    Found,
    Handle,
    Host,
    Phase,
    Plug,
)
from longshore_core.abc import Runtime
from longshore_core.testing.reference import (
    FACTS,
    Config,
    Modelled,
    ReferenceDriver,
    runtime_of,
)
from longshore_core.testing.reference_world import world_file
from pydantic import BaseModel

from tests.conformance.mutants.planting import MUTANTS, Broken, Mutant, model

# Looking.


@model("F1", "the first survey took")
class IsSlowToAnswer(Broken):
    async def survey(self) -> Sequence[Found]:
        await anyio.sleep(1.2)
        return await super().survey()


@model("F2", "a survey without the engine")
class TakesAnEngineThatIsAwayForAnEmptyOne(Broken):
    async def survey(self) -> Sequence[Found]:
        away = self._config.engine_away_file
        return [] if away is not None and away.exists() else await super().survey()


@model("F3", "phases in the survey")
class OmitsWhatWasOnlyCreated(Broken):
    async def survey(self) -> Sequence[Found]:
        return [each for each in await super().survey() if each.phase is not Phase.CREATED]


@model("F5", "the survey, asked for again")
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


model("R1", "its phase after a restart")(type("ForgetsWhatRuns", (Forgets,), {}))
model("R1.5", "the survey of the next driver", facts=replace(FACTS, recovers=False))(
    type("OutlivesWithoutSaying", (Broken,), {})
)


@model("R1.3", "its end after a restart")
class ForgetsCodesWithTheWorker(Broken):
    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        container = self.containers[handle.id]
        kept, container.record.exit = container.record.exit, None
        self._save()
        container.record.exit = kept
        return attachment


@model("R2.2", "what the next driver has of it")
class BringsBackWhatWasRemoved(Broken):
    async def remove(self, handle: Handle) -> None:
        kept, self._file = self._file, None
        await super().remove(handle)
        self._file = kept


@model("R4.2", "what an owner of nearly our name finds")
class SharesAmongOwners(Broken):
    def __init__(self, config: Config, file: Path) -> None:
        super().__init__(config, file.with_name("world.json"))


@model("R5", "start raised KeyError")
class CrashesOverStrangeHandles(Broken):
    def known(self, handle: Handle) -> Modelled | None:
        names = {1: "first"}
        assert names[handle.schema]
        return super().known(handle)


class SaysMoreInItsHandles(Broken):
    """A release whose handles are no longer those that are kept."""

    async def create(self, spec: ContainerSpec) -> Handle:
        return replace(await super().create(spec), state={"made_by": "this release"})


@model("R5.2", "its phase after removal by")
class RemovesNothingByOldHandles(SaysMoreInItsHandles):
    async def remove(self, handle: Handle) -> None:
        if handle.state:
            await super().remove(handle)


@model("R5.2", "its phase, .* refused")
class EndsWhatItDoesNotUnderstand(SaysMoreInItsHandles):
    async def signal(self, handle: Handle, number: Signals) -> None:
        await super().signal(handle, number)
        if not handle.state:
            raise BackendError(f"a handle of {handle.id} of another release")


@model("R6", "that is none of my handles")
class KnowsItsHandlesByTheirIdentity(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        self.mine = await super().create(spec)
        return self.mine

    async def start(self, handle: Handle) -> Attachment:
        if handle is not self.mine:
            raise BackendError("that is none of my handles")
        return await super().start(handle)


# Describing itself.


@model("I5", "its facts after it was opened again", facts=FACTS)
class SaysSomethingElseEachTime(Broken):
    times: ClassVar[list[int]] = []


@model("I7", "its runtime has no `pause`")
class ClaimsToPause(Broken):
    runtime_changes: ClassVar[dict[str, Any]] = {"pause": None}


@model("I6", "the handle has .* bytes")
class HandsOutHugeHandles(Broken):
    async def create(self, spec: ContainerSpec) -> Handle:
        return replace(await super().create(spec), state={"all": "x" * 20_000})


@model("N0", "interface, namespace and addresses without a network")
class NamesAnInterfaceThatIsNone(Broken):
    def attachment(self, container: Modelled) -> Attachment:
        return Attachment(image_applied=False, interface="eth0")


@model("T1", "was not done within")
class SwallowsTheOrderToEnd(Broken):
    async def signal(self, handle: Handle, signal: Signals) -> None:
        if signal is not SIGTERM:
            await super().signal(handle, signal)


@asynccontextmanager
async def _open_changing(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    SaysSomethingElseEachTime.times.append(1)
    driver = SaysSomethingElseEachTime(config, world_file(host.state_dir, host.owner))
    facts = replace(FACTS, tty=len(SaysSomethingElseEachTime.times) % 2 == 0)
    yield runtime_of(driver, facts)


class _Careless(BaseModel):
    colour: str = ""


class _Talkative(BaseModel, extra="forbid"):
    api_token: str = ""


@asynccontextmanager
async def _open_anyhow(_config: Any, host: Host) -> AsyncGenerator[Runtime]:
    driver = ReferenceDriver(Config(), world_file(host.state_dir, host.owner))
    yield runtime_of(driver)


@asynccontextmanager
async def _open_and_leave(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    mark = host.owner.partition("/")[0]
    descriptor, _ = tempfile.mkstemp(prefix=f"{mark}-")
    os.close(descriptor)
    async with _open_anyhow(config, host) as runtime:
        yield runtime


MUTANTS["SaysSomethingElseEachTime"] = Mutant(
    law="I5",
    why="its facts after it was opened again",
    plug=Plug(config=Config, open=_open_changing),
)
MUTANTS["TakesUnknownKeys"] = Mutant(
    law="I2", why="the key 'colourx' is taken", plug=Plug(config=_Careless, open=_open_anyhow)
)
MUTANTS["ShowsItsSecrets"] = Mutant(
    law="I2.2", why="api_token smells of a secret", plug=Plug(config=_Talkative, open=_open_anyhow)
)
MUTANTS["LeavesATemporaryFile"] = Mutant(
    law="I4",
    why="left by an open and a close: temporary file",
    plug=Plug(config=Config, open=_open_and_leave),
)
