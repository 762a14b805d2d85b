"""The worker's kernel in this process: keeper, lanes, effects and store, over a driver that fails.

No socket and no server: who tests speaks with the desk, as the link to the server would. Time
stands still until it is told to pass, and the worker can be cut off between any two of its steps.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from longshore_core._machine.ledger import Capacity, Ledger
from longshore_core._plugins import hooks
from longshore_core._plugins.hooks import Admission, Seam, Selected
from longshore_core._plugins.opening import AdaptedDriver, opened
from longshore_core._worker.desk import KeepersDesk
from longshore_core._worker.effects import Backends, Blamed, Deadlines, Performer
from longshore_core._worker.keeper import Keeper, Keeping
from longshore_core._worker.lanes import Lanes
from longshore_core._worker.mail import Taken
from longshore_core._worker.routes import RouteFeed
from longshore_core._worker.store import open_store
from longshore_core._worker.surveys import Patience
from longshore_core._worker.transitions import Transitions
from longshore_core.abc import Host
from longshore_core.testing.chaos_plan import CPU_MILLIS, MOST_LIVES

STORE: Final = "worker.sqlite"
EXECUTOR: Final = "chaos"


class PowerCut(Exception):
    """The worker dies here: no error of anybody's, but the end that the run has chosen."""


class Fuse:
    """Blows at a boundary between two of the worker's steps, when one is set."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, boundary: str) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.left = None
                raise PowerCut(boundary)


class Clock:
    """Seconds since the epoch, which pass only when they are told to."""

    def __init__(self) -> None:
        self._now = time.time()

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker that has recovered."""

    keeper: Keeper
    desk: KeepersDesk
    driver: AdaptedDriver
    clock: Clock
    lanes: Lanes
    tasks: TaskGroup

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and have the keeper notice."""
        self.clock.advance(seconds)
        await self.keeper.submit(Taken(numbers=frozenset()))

    def sweep(self) -> None:
        """What the worker does now and then, beside everything else."""
        self.tasks.start_soon(self.keeper.sweep, self.lanes, self.driver.survey)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What of a worker is not the driver: chosen once for many runs, for it is read from disk."""

    guest: Selected[Any]
    network: Selected[Any]
    secrets: Selected[Any]


def surroundings() -> Surroundings:
    """The plugins of the kernel that need nothing."""

    def chosen(seam: Seam[Any], name: str) -> Selected[Any]:
        return hooks.select(seam, name)

    return Surroundings(
        guest=chosen(hooks.GUESTS, "bare"),
        network=chosen(hooks.NETWORKS, "open"),
        secrets=chosen(hooks.SECRETS, "none"),
    )


@asynccontextmanager
async def open_backends(
    around: Surroundings, driver: AdaptedDriver, host: Host
) -> AsyncGenerator[Backends]:
    """Everything that a worker does its work with."""
    async with AsyncExitStack() as stack:

        async def blamed(selected: Selected[Any]) -> Blamed[Any]:
            thing = await stack.enter_async_context(opened(selected, {}, host, "chaos"))
            return Blamed(thing=thing, origin=selected.origin)

        yield Backends(
            driver=driver,
            guest=await blamed(around.guest),
            network=await blamed(around.network),
            secrets=await blamed(around.secrets),
            admission=Admission(voters=()),
        )


@asynccontextmanager
async def open_worker(
    place: Path, backends: Backends, clock: Clock, fuse: Fuse, patience: float
) -> AsyncGenerator[Worker]:
    """A worker on the state in `place`. `patience` is the deadline of every effect, in seconds.

    Raises what the driver's survey raises, and an ExceptionGroup of what ends its tasks.
    """
    async with open_store(place / STORE) as store:
        routes = RouteFeed()
        keeping = Keeping(
            store=store,
            routes=routes,
            transitions=Transitions(),
            clock=clock,
            patience=Patience(seconds=patience, pause=0.01),
            boundary=fuse,
        )
        total = Capacity(cpu_millis=MOST_LIVES * CPU_MILLIS, memory_bytes=1, disk_bytes=1)
        keeper = Keeper(keeping, Ledger(total=total))
        performer = Performer(backends, EXECUTOR, _deadlines(patience))
        async with anyio.create_task_group() as tasks:
            lanes = Lanes(tasks, performer, keeper.post, fuse)
            await keeper.recover(lanes, backends.driver.survey)
            tasks.start_soon(keeper.run)
            yield Worker(
                keeper=keeper,
                desk=KeepersDesk(keeper, routes),
                driver=backends.driver,
                clock=clock,
                lanes=lanes,
                tasks=tasks,
            )
            tasks.cancel_scope.cancel()


async def stall(place: Path, seconds: float) -> None:
    """Let nobody write to the state in `place` for so long, as a disk does that has much to do.

    Who writes meanwhile waits; SQLite gives up after five seconds, which is more.
    """
    with (
        closing(sqlite3.connect(place / STORE, isolation_level=None, timeout=0)) as other,
        suppress(sqlite3.OperationalError),  # it is being written to at this moment, or stalls
    ):
        other.execute("BEGIN IMMEDIATE")
        await anyio.sleep(seconds)


def _deadlines(patience: float) -> Deadlines:
    return Deadlines(
        create=patience,
        start=patience,
        admit=patience,
        release=patience,
        halt=patience,
        remove=patience,
        engine_retry=0.01,
    )
