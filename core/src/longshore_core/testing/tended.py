"""One container under the kernel's own machine, its effects done by the driver under examination.

As in a worker, but for one container, without a server, and at whatever time the law says it is.
"""

from __future__ import annotations

from collections import deque
from signal import SIGTERM
from typing import Final

from longshore_core._machine.life import (
    Abandon,
    Admit,
    Admitted,
    Container,
    Create,
    Created,
    Effect,
    Event,
    Exited,
    Halt,
    Order,
    Release,
    Released,
    Remove,
    Removed,
    Start,
    Started,
    Surveyed,
    Wake,
    Watch,
    Woken,
)
from longshore_core._machine.step import begin, step
from longshore_core._model import ContainerSpec, Handle
from longshore_core.abc import Driver

GRACE_SECONDS: Final = 10.0


class Tended:
    """A container that is kept by `step`."""

    def __init__(self, driver: Driver, spec: ContainerSpec, *, timeout: float) -> None:
        self.driver = driver
        self.now = 0.0
        self.wakes_at: float | None = None
        self.handle: Handle | None = None
        """Of what is being watched."""
        self._spec = spec
        order = Order(id=spec.id, sandbox_id="sandbox", timeout_seconds=timeout)
        self.container, self._first = begin(order, incarnation=1, token="", now=self.now)

    @property
    def life(self) -> str:
        """The name of its state."""
        return type(self.container.life).__name__

    async def begin(self) -> None:
        """From nothing to running."""
        await self._do(deque(self._first))

    async def happen(self, event: Event) -> None:
        """Something has happened: go on until nothing is left to do."""
        self.container, effects = step(self.container, event, self.now, GRACE_SECONDS)
        await self._do(deque(effects))

    async def wake(self) -> None:
        """Let the time come that it asked to be woken at."""
        if self.wakes_at is not None:
            self.now = max(self.now, self.wakes_at)
        await self.happen(Woken())

    async def see_end(self) -> None:
        """Wait until PID 1 has ended, as the watch of a worker does."""
        if self.handle is not None:
            await self.happen(Exited(exit=await self.driver.wait(self.handle)))

    async def survive(self, driver: Driver, container: Container, now: float) -> None:
        """Go on in another worker, from what was stored."""
        self.driver, self.container, self.now = driver, container, now
        found = [each for each in await driver.survey() if each.id == container.id]
        await self.happen(Surveyed(found=found[0] if found else None))

    async def _do(self, effects: deque[Effect]) -> None:
        while effects:
            event = await self._perform(effects.popleft(), effects)
            if event is not None:
                self.container, more = step(self.container, event, self.now, GRACE_SECONDS)
                effects.extend(more)

    async def _perform(self, effect: Effect, waiting: deque[Effect]) -> Event | None:
        match effect:
            case Create():
                return Created(handle=await self.driver.create(self._spec))
            case Start(handle=handle):
                return Started(attachment=await self.driver.start(handle))
            case Admit():
                return Admitted()
            case Release():
                return Released()
            case Watch(handle=handle):
                self.handle = handle
            case Halt(handle=handle):
                await self.driver.signal(handle, SIGTERM)
            case Remove(handle=handle):
                await self.driver.remove(handle or Handle(id=self._spec.id))
                return Removed()
            case Wake(at=at):
                self.wakes_at = at
            case Abandon():
                kept = [each for each in waiting if not isinstance(each, Create | Start | Halt)]
                waiting.clear()
                waiting.extend(kept)
            case _:
                pass  # what is told to others: nobody else is here
        return None
