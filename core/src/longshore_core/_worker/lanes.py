"""Ordered effects: one FIFO lane a container, and a limit for each class of effect.

An idle container costs no task. Abandoning a lane cancels what it does and drops what waits in it;
the next effect starts when the cancelled one has let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from longshore_core._machine.life import Ask, Create, Event, Halt, Release, Remove, Start, Watch
from longshore_core._model import ContainerId
from longshore_core._worker.effects import LaneEffect, Performer
from longshore_core._worker.mail import Ticket

Boundary: TypeAlias = Callable[[str], None]
"""Told the name of each point between two durable steps: where a crash test crashes."""

LIMITS: Final[Mapping[type[LaneEffect], int]] = {
    Create: 16,
    Start: 8,
    Release: 32,
    Halt: 32,
    Remove: 16,
}
"""How many effects of a class run at once."""


@dataclass(slots=True)
class _Lane:
    waiting: deque[tuple[Ticket, LaneEffect]] = field(
        default_factory=deque[tuple[Ticket, LaneEffect]]
    )
    current: anyio.CancelScope | None = None
    watches: dict[type[Watch | Ask], anyio.CancelScope] = field(
        default_factory=dict[type[Watch | Ask], anyio.CancelScope]
    )


class Lanes:
    """Runs effects for the keeper, and posts back what came of them."""

    def __init__(
        self,
        tasks: TaskGroup,
        performer: Performer,
        post: Callable[[Ticket, Event], None],
        boundary: Boundary,
    ) -> None:
        self._tasks = tasks
        self._performer = performer
        self._post = post
        self._boundary = boundary
        self._lanes: dict[ContainerId, _Lane] = {}
        self._limits = {kind: anyio.Semaphore(count) for kind, count in LIMITS.items()}

    def submit(self, ticket: Ticket, effect: LaneEffect) -> None:
        """Queue an effect behind the container's others."""
        lane = self._lanes.setdefault(ticket.container, _Lane())
        lane.waiting.append((ticket, effect))
        if lane.current is None:
            lane.current = anyio.CancelScope()
            self._tasks.start_soon(self._run, ticket.container, lane)

    def watch(self, ticket: Ticket, effect: Watch | Ask) -> None:
        """Watch a container, beside its lane; an earlier watch of the kind ends."""
        lane = self._lanes.setdefault(ticket.container, _Lane())
        earlier = lane.watches.get(type(effect))
        if earlier is not None:
            earlier.cancel()
        scope = lane.watches[type(effect)] = anyio.CancelScope()
        self._tasks.start_soon(self._watch, ticket, effect, scope)

    def abandon(self, container: ContainerId) -> None:
        """Cancel what the lane does, drop what waits in it, end the watches."""
        lane = self._lanes.get(container)
        if lane is None:
            return
        lane.waiting.clear()
        if lane.current is not None:
            lane.current.cancel()
        for scope in lane.watches.values():
            scope.cancel()
        lane.watches.clear()

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept for a container that nobody has a record of any more."""
        self.abandon(container)
        lane = self._lanes.get(container)
        if lane is not None and lane.current is None:
            del self._lanes[container]

    async def _run(self, container: ContainerId, lane: _Lane) -> None:
        try:
            while lane.waiting:
                ticket, effect = lane.waiting.popleft()
                with anyio.CancelScope() as lane.current:
                    await self._perform(ticket, effect)
        finally:
            lane.current = None
        if not lane.watches and self._lanes.get(container) is lane:
            del self._lanes[container]

    async def _perform(self, ticket: Ticket, effect: LaneEffect) -> None:
        name = type(effect).__name__.lower()
        limit = self._limits.get(type(effect))
        if limit is None:
            await self._performed(ticket, effect, name)
        else:
            async with limit:
                await self._performed(ticket, effect, name)

    async def _performed(self, ticket: Ticket, effect: LaneEffect, name: str) -> None:
        self._boundary(f"{name}:before")
        event = await self._performer.perform(ticket.container, effect)
        self._boundary(f"{name}:after")
        if event is not None:
            self._post(ticket, event)

    async def _watch(self, ticket: Ticket, effect: Watch | Ask, scope: anyio.CancelScope) -> None:
        with scope:
            event = await self._performer.watch(ticket.container, effect)
            if event is not None:
                self._post(ticket, event)
