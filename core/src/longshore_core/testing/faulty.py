"""The `faulty` driver: any other driver, or none, with faults where and when a script says.

    driver:
      type: faulty
      wraps: {type: fork_exec}
      seed: 7
      faults:
        - {at: start.after, do: drop_reply, p: 0.1}
        - {at: survey.before, do: raise, error: engine_unavailable, times: 2}

With `script` in place of `wraps` there are no containers at all: they follow the script. Whether a
fault strikes depends on the seed, the fault, the container and the how-many-eth call of its method
this is, and on nothing else: not on what other containers do meanwhile.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from signal import Signals
from typing import Any, Final, Literal, Self, cast

import anyio
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from longshore_core._errors import EngineUnavailable
from longshore_core._model import Attachment, ContainerSpec, Exit, Facts, Found, Handle
from longshore_core._plugins import hooks
from longshore_core._plugins.opening import AdaptedDriver, opened
from longshore_core._settings import Choice
from longshore_core.abc import Driver, Host, Plug, Runtime
from longshore_core.hookspecs import hookimpl
from longshore_core.testing.scripted import ErrorName, Script, ScriptedDriver, ScriptedLogs, error

Point = Literal[
    "create.before",
    "create.after",
    "start.before",
    "start.after",
    "wait.before",
    "wait.after",
    "signal.before",
    "signal.after",
    "remove.before",
    "remove.after",
    "survey.before",
    "survey.after",
]
"""Where a fault can strike: before a method of the driver is called, or after it is done."""

Deed = Literal["raise", "hang", "delay", "crash", "drop_reply"]

_NOBODY: Final = ""
"""In place of a container's id, where a method is of none."""


class Fault(BaseModel):
    """What goes wrong, where, and how often.

    `raise` raises `error`; `crash` raises what no driver may, as a bug would; `delay` takes
    `seconds` more; `hang` waits until it is cancelled; `drop_reply` (after a method, only) has it
    done, and says that the engine could not be heard.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Point
    do: Deed
    p: float = Field(default=1, ge=0, le=1)
    seconds: float = Field(default=0.1, ge=0)
    error: ErrorName = "backend"
    times: int | None = Field(default=None, ge=1)
    """At most so many times for one container; absent: without an end."""

    @model_validator(mode="after")
    def _a_reply_is_dropped_after_the_deed(self) -> Self:
        if self.do == "drop_reply" and not self.at.endswith(".after"):
            method = self.at.partition(".")[0]
            raise ValueError(f"drop_reply has the call done; it goes with `at: {method}.after`")
        return self


class Config(BaseModel):
    """`driver: {type: faulty}`, and what may stand beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wraps: Choice | None = None
    """The driver that does the work, with its own keys beside its `type`."""
    script: tuple[Script, ...] = ()
    """How containers behave, in place of a driver: one script, or a list; the first that matches
    a container is its own."""
    faults: tuple[Fault, ...] = ()
    seed: int = 0

    @field_validator("script", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [cast("dict[str, Any]", value)] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _either_or(self) -> Self:
        if (self.wraps is None) == (not self.script):
            raise ValueError("give either `wraps`, a driver, or `script`, in place of one")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A fault that has happened."""

    container: str
    """Empty: a survey, which is of no container."""
    fault: Fault


class FaultyDriver(Driver):
    """Passes each call on, and lets faults strike before and after it."""

    def __init__(self, inner: Driver, faults: Sequence[Fault], seed: int) -> None:
        self.inner: Final = inner
        self.struck: Final[list[Struck]] = []
        self.broken_off: Final = Counter[str]()
        """Per container, how often the inner `start` gave no answer: cancelled, or failed. It has
        then undone what it had begun, and may be asked again."""
        self._faults = tuple(faults)
        self._seed = seed
        self._calls = Counter[tuple[str, str]]()
        self._strikes = Counter[tuple[int, str]]()

    def heal(self) -> None:
        """No fault strikes from now on. What hangs goes on hanging."""
        self._faults = ()

    async def create(self, spec: ContainerSpec) -> Handle:
        async with self._around("create", spec.id):
            return await self.inner.create(spec)

    async def start(self, handle: Handle) -> Attachment:
        async with self._around("start", handle.id):
            self.broken_off[handle.id] += 1
            attachment = await self.inner.start(handle)
            self.broken_off[handle.id] -= 1
            return attachment

    async def wait(self, handle: Handle) -> Exit:
        async with self._around("wait", handle.id):
            return await self.inner.wait(handle)

    async def signal(self, handle: Handle, signal: Signals) -> None:
        async with self._around("signal", handle.id):
            await self.inner.signal(handle, signal)

    async def remove(self, handle: Handle) -> None:
        async with self._around("remove", handle.id):
            await self.inner.remove(handle)

    async def survey(self) -> Sequence[Found]:
        async with self._around("survey", _NOBODY):
            return await self.inner.survey()

    @asynccontextmanager
    async def _around(self, method: str, container: str) -> AsyncGenerator[None]:
        await self._reach(f"{method}.before", container)
        yield
        await self._reach(f"{method}.after", container)

    async def _reach(self, point: str, container: str) -> None:
        self._calls[point, container] += 1
        call = self._calls[point, container]
        for index, fault in enumerate(self._faults):
            if fault.at == point and self._strikes_now(index, container, call):
                self.struck.append(Struck(container=container, fault=fault))
                await _do(fault, f"{point} of {container or 'all'}, by the script")

    def _strikes_now(self, index: int, container: str, call: int) -> bool:
        fault = self._faults[index]
        if fault.times is not None and self._strikes[index, container] >= fault.times:
            return False
        # Of each call by itself, so that the order in which containers come does not matter.
        draw = random.Random(f"{self._seed}/{index}/{container}/{call}").random()
        if draw >= fault.p:
            return False
        self._strikes[index, container] += 1
        return True


async def _do(fault: Fault, where: str) -> None:
    match fault.do:
        case "raise":
            raise error(fault.error, f"failed at {where}")
        case "crash":
            # Not one of ours, on purpose: this is what a bug of a driver looks like.
            raise RuntimeError(f"crashed at {where}")
        case "drop_reply":
            raise EngineUnavailable(f"no reply at {where}")
        case "delay":
            await anyio.sleep(fault.seconds)
        case "hang":
            await anyio.sleep_forever()


@asynccontextmanager
async def open_faulty(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    """Open what is wrapped, through the adapter that the worker uses, and put the faults around."""
    if config.wraps is None:
        scripted = ScriptedDriver(config.script, host.state_dir)
        facts = Facts(images=False, mounts=False, programs=False, sockets=False, recovers=True)
        driver = FaultyDriver(scripted, config.faults, config.seed)
        yield Runtime(driver=driver, facts=facts, logs=ScriptedLogs(scripted))
        return
    slot = host.owner.rpartition("/")[2] or "driver"
    selected = hooks.select(hooks.DRIVERS, config.wraps.type, f"{slot}.wraps.type")
    place = host.state_dir / selected.origin.name
    place.mkdir(mode=0o700, exist_ok=True)
    lent = replace(host, name=selected.origin.name, state_dir=place)
    async with opened(selected, config.wraps.options, lent, f"{slot}.wraps") as runtime:
        inner = AdaptedDriver(runtime, selected.origin)
        # Its abilities are passed on as they are, and blamed on it by its own name.
        yield replace(
            runtime,
            driver=FaultyDriver(inner, config.faults, config.seed),
            images=runtime.images and inner,
            health=runtime.health and inner,
            pause=runtime.pause and inner,
            usage=runtime.usage and inner,
            logs=runtime.logs and inner,
            exec=runtime.exec and inner,
        )


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    """Offer the driver `faulty`."""
    return Plug(config=Config, open=open_faulty)
