"""A keeper with lanes and a store, in this process, and a world whose every answer a test holds."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from signal import Signals

import anyio
import pytest
import trio.testing
from longshore_core import (
    Attachment,
    ContainerId,
    ContainerSpec,
    Exit,
    Facts,
    Found,
    Handle,
    NetworkPolicy,
    Phase,
    PullProgress,
    Reach,
)
from longshore_core._machine.ledger import Capacity, Ledger
from longshore_core._machine.life import Life, Order, Terminated, Unwanted, Wanted
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import Admission
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core._worker.effects import Backends, Blamed, Performer
from longshore_core._worker.keeper import Keeper, Keeping
from longshore_core._worker.lanes import Lanes
from longshore_core._worker.mail import Taken, Wish
from longshore_core._worker.routes import RouteFeed
from longshore_core._worker.store import Store, open_store
from longshore_core._worker.transitions import Transitions
from longshore_core.abc import Runtime

ORIGIN = Installed(group="g", name="play", value="play", distribution="acme-play", version="1.0")
EPOCH = 1_000_000.0


class World:
    """Driver, guest, network and secrets at once. Notes each call; waits, fails as it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.specs: list[ContainerSpec] = []
        self.cancelled: list[str] = []
        self.gates: dict[str, anyio.Event] = {}
        self.faults: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self.stubborn: set[str] = set()
        """Operations that let no cancellation through, as a call in a thread does."""
        self.found: dict[ContainerId, Found] = {}
        self.ended: dict[ContainerId, anyio.Event] = {}
        self.exits: dict[ContainerId, Exit] = {}
        self.reach: Reach | None = None
        self.values: dict[str, str] = {}
        self.sessions = 0
        self.pulls: list[PullProgress] = []
        """What a pull says of itself before it is done."""
        self.called: Callable[[str], None] = lambda _call: None

    async def at(self, operation: str, id_: str = "") -> None:
        call = f"{operation} {id_}".strip()
        self.calls.append(call)
        self.called(call)
        try:
            with anyio.CancelScope(shield=operation in self.stubborn):
                if operation in self.gates:
                    await self.gates[operation].wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(call)
            raise
        if self.faults[operation]:
            raise self.faults[operation].popleft()

    async def create(self, spec) -> Handle:
        await self.at("create", spec.id)
        self.specs.append(spec)
        handle = Handle(id=spec.id)
        self.found[spec.id] = Found(id=spec.id, handle=handle, phase=Phase.CREATED)
        return handle

    async def start(self, handle: Handle) -> Attachment:
        await self.at("start", handle.id)
        self.runs(handle.id)
        return Attachment(reach=self.reach)

    def runs(self, id_: str) -> None:
        attachment = Attachment(reach=self.reach)
        name = ContainerId(id_)
        self.found[name] = Found(
            id=name, handle=Handle(id=name), phase=Phase.RUNNING, attachment=attachment
        )
        self.ended.setdefault(name, anyio.Event())

    async def wait(self, handle: Handle) -> Exit:
        await self.at("wait", handle.id)
        await self.ended.setdefault(handle.id, anyio.Event()).wait()
        return self.exits.get(handle.id, Exit())

    def end(self, id_: str, exit_: Exit) -> None:
        self.exits[ContainerId(id_)] = exit_
        self.ended.setdefault(ContainerId(id_), anyio.Event()).set()

    async def signal(self, handle: Handle, signal: Signals) -> None:
        await self.at(f"signal {signal.name}", handle.id)

    async def remove(self, handle: Handle) -> None:
        await self.at("remove", handle.id)
        for kept in (self.found, self.ended, self.exits):
            kept.pop(handle.id, None)

    async def survey(self) -> Sequence[Found]:
        await self.at("survey")
        return list(self.found.values())

    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        for step in self.pulls:
            progress(step)
        await self.at("ensure", reference)

    def launch(self, spec, _facts):
        return spec

    async def connect(self, _reach: Reach) -> World:
        await self.at("connect")
        self.sessions += 1
        return self

    async def health(self) -> None:
        await self.at("health")

    async def go(self, _launch) -> None:
        await self.at("go")

    async def stop(self) -> None:
        await self.at("stop")

    async def aclose(self) -> None:
        self.sessions -= 1
        await self.at("aclose")

    async def admit(self, container: str, _attachment: Attachment, policy: NetworkPolicy) -> None:
        closed = "" if policy == NetworkPolicy() else " closed"
        await self.at(f"admit{closed}", container)

    async def revoke(self, container: str) -> None:
        await self.at("revoke", container)

    async def fetch(self, _namespace: str, _names: Sequence[str]) -> dict[str, str]:
        await self.at("fetch")
        return self.values

    def backends(self) -> Backends:
        runtime = Runtime(driver=self, facts=Facts(), images=self)
        me = Blamed(thing=self, origin=ORIGIN)
        return Backends(
            driver=AdaptedDriver(runtime, ORIGIN),
            guest=me,
            network=me,
            secrets=me,
            admission=Admission(voters=()),
        )


class Harbour:
    """The keeper at work, and what a test asks of it."""

    def __init__(self, world: World, store: Store, feed: RouteFeed) -> None:
        self.world, self.store, self.routes = world, store, feed
        self.points: list[str] = []
        self.slept = 0.0
        """How long the host was asleep: then timers stand still."""
        self._moved = anyio.Event()
        world.called = self.note
        keeping = Keeping(
            store=store,
            routes=feed,
            transitions=Transitions(),
            clock=lambda: EPOCH + anyio.current_time() + self.slept,
            boundary=self.note,
        )
        total = Capacity(cpu_millis=1000, memory_bytes=1 << 30, disk_bytes=1 << 30)
        self.keeper = Keeper(keeping, Ledger(total=total))
        self.lanes: Lanes

    def note(self, point: str) -> None:
        self.points.append(point)
        self._moved.set()
        self._moved = anyio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(1e6 if _virtual() else 10):
            while not condition():
                await self._moved.wait()

    def life(self, id_: str = "c1") -> Life | None:
        container = self.keeper.containers.get(ContainerId(id_))
        return container.life if container else None

    async def want(self, order: Order, *, begins: bool = True) -> None:
        wish = Wish(container=order.id, event=Wanted(order=order), begins=begins)
        await self.keeper.submit(wish)

    async def unwant(self, id_: str = "c1") -> None:
        await self.keeper.submit(Wish(container=ContainerId(id_), event=Unwanted(message="asked")))

    async def reaches(self, tag: str, id_: str = "c1") -> None:
        await self.until(lambda: (life := self.life(id_)) is not None and life.tag == tag)
        # A turn later, what was decided then is committed too.
        await self.keeper.submit(Taken(numbers=frozenset()))

    async def ends(self, id_: str = "c1") -> Terminated:
        await self.reaches("terminated", id_)
        life = self.life(id_)
        assert isinstance(life, Terminated)
        return life


def _virtual() -> bool:
    try:
        return anyio.current_time() < EPOCH and isinstance(
            trio.lowlevel.current_clock(), trio.testing.MockClock
        )
    except RuntimeError:
        return False


Open = Callable[..., AbstractAsyncContextManager[Harbour]]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def harbour(tmp_path: Path, world: World) -> Open:
    """Open a harbour on what an earlier one of the same test has left."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Harbour]:
        async with open_store(tmp_path / "worker.sqlite") as store:
            here = Harbour(world, store, RouteFeed())
            async with anyio.create_task_group() as tasks:
                performer = Performer(world.backends(), "executor")
                here.lanes = Lanes(tasks, performer, here.keeper.post, here.note)
                await here.keeper.recover(here.lanes, world.backends().driver.survey)
                tasks.start_soon(here.keeper.run)
                yield here
                tasks.cancel_scope.cancel()

    return opened


@pytest.fixture
def virtual_time() -> tuple[str, dict[str, object]]:
    """For `anyio_backend`: hours pass at once, whenever nothing is left to do.

    Not at the first idle moment: the store's thread is at work then.
    """
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0.03)}
