from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    Exit,
    GuestError,
    Handle,
    UnixReach,
)
from longshore_core._machine.life import (
    Ask,
    Create,
    Created,
    Exited,
    Failed,
    Order,
    Remove,
    Removed,
    Revoke,
    Start,
    Unhealthy,
    Watch,
)
from longshore_core._worker.effects import Performer
from longshore_core._worker.lanes import LIMITS, Lanes
from longshore_core._worker.mail import Ticket

C1 = ContainerId("c1")


class Quay:
    def __init__(self, world, tasks) -> None:
        self.posted: list[tuple[int, object]] = []
        self.number = 0
        performer = Performer(world.backends(), "executor")
        self.lanes = Lanes(tasks, performer, self._post, lambda _point: None)

    def _post(self, ticket: Ticket, event: object) -> None:
        self.posted.append((ticket.number, event))

    def ticket(self, id_: str = "c1") -> Ticket:
        self.number += 1
        return Ticket(container=ContainerId(id_), incarnation=1, number=self.number)

    def submit(self, *effects, id_: str = "c1") -> None:
        for effect in effects:
            self.lanes.submit(self.ticket(id_), effect)


def create(id_: str = "c1") -> Create:
    return Create(order=Order(id=ContainerId(id_)))


HANDLE = Handle(id=C1)
ASK = Ask(attachment=Attachment(reach=UnixReach("/nowhere")))


@pytest.fixture
def anyio_backend(virtual_time):
    return virtual_time


@pytest.fixture
def quay(world):
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Quay]:
        async with anyio.create_task_group() as tasks:
            yield Quay(world, tasks)
            tasks.cancel_scope.cancel()

    return opened


async def test_one_container_s_effects_run_in_order(quay, world) -> None:
    async with quay() as here:
        here.submit(create(), Start(handle=HANDLE), Revoke(), Remove(handle=HANDLE))
        await wait_all_tasks_blocked()
        assert world.calls == ["create c1", "start c1", "revoke c1", "remove c1"]
        assert [number for number, _ in here.posted] == [1, 2, 4]


async def test_containers_do_not_wait_for_each_other(quay, world) -> None:
    world.gates["create"] = anyio.Event()
    async with quay() as here:
        here.submit(create("a"), id_="a")
        here.submit(Start(handle=Handle(id=ContainerId("b"))), id_="b")
        await wait_all_tasks_blocked()
        assert sorted(world.calls) == ["create a", "start b"]


async def test_an_abandoned_lane_cancels_drops_and_goes_on_with_what_is_new(quay, world) -> None:
    world.gates["create"] = anyio.Event()
    async with quay() as here:
        here.submit(create(), Start(handle=HANDLE))
        await wait_all_tasks_blocked()
        here.lanes.abandon(C1)
        here.submit(Remove(handle=HANDLE))
        await wait_all_tasks_blocked()
        assert world.cancelled == ["create c1"]
        assert world.calls == ["create c1", "remove c1"]
        assert here.posted == [(3, Removed())]


async def test_a_lane_may_be_abandoned_before_it_has_begun(quay, world) -> None:
    async with quay() as here:
        here.submit(create())
        here.lanes.abandon(C1)
        here.submit(Remove(handle=HANDLE))
        await wait_all_tasks_blocked()
        assert world.calls == ["remove c1"]


async def test_what_follows_waits_until_the_cancelled_has_let_go(quay, world) -> None:
    world.gates["create"] = anyio.Event()
    world.stubborn.add("create")
    async with quay() as here:
        here.submit(create())
        await wait_all_tasks_blocked()
        here.lanes.abandon(C1)
        here.submit(Remove(handle=HANDLE))
        await wait_all_tasks_blocked()
        assert world.calls == ["create c1"]
        world.gates["create"].set()
        await wait_all_tasks_blocked()
        assert world.calls == ["create c1", "remove c1"]


async def test_a_class_of_effects_is_limited_and_what_is_abandoned_in_line_takes_no_place(
    quay, world
) -> None:
    world.gates["create"] = anyio.Event()
    most = LIMITS[Create]
    async with quay() as here:
        for number in range(most + 3):
            here.submit(create(f"c{number}"), id_=f"c{number}")
        await wait_all_tasks_blocked()
        running = {call.split()[1] for call in world.calls}
        waiting = {f"c{number}" for number in range(most + 3)} - running
        assert len(running) == most
        given_up = waiting.pop()
        for name in (given_up, running.pop()):
            here.lanes.abandon(ContainerId(name))
        await wait_all_tasks_blocked()
        assert len(world.calls) == most + 1
        world.gates["create"].set()
        await wait_all_tasks_blocked()
        assert {call.split()[1] for call in world.calls[most:]} == waiting
        assert len(here.posted) == most + 1


async def test_a_failure_is_posted_and_the_lane_goes_on(quay, world) -> None:
    world.faults["revoke"].append(BackendError("locked"))
    async with quay() as here:
        here.submit(Revoke(), Remove(handle=HANDLE))
        await wait_all_tasks_blocked()
        (_, failed), (_, removed) = here.posted
        assert isinstance(failed, Failed)
        assert (failed.operation, failed.why.message) == ("revoke", "locked")
        assert removed == Removed()


async def test_a_later_watch_takes_the_place_of_an_earlier_one(quay, world) -> None:
    watch = Watch(handle=HANDLE)
    async with quay() as here:
        here.lanes.watch(here.ticket(), watch)
        await wait_all_tasks_blocked()
        here.lanes.watch(here.ticket(), watch)
        await wait_all_tasks_blocked()
        world.end("c1", Exit(code=0))
        await wait_all_tasks_blocked()
        assert here.posted == [(2, Exited(exit=Exit(code=0)))]


async def test_to_ask_after_its_health_does_not_begin_the_wait_for_its_end_again(
    quay, world
) -> None:
    async with quay() as here:
        here.lanes.watch(here.ticket(), Watch(handle=HANDLE))
        await wait_all_tasks_blocked()
        here.lanes.watch(here.ticket(), ASK)
        await wait_all_tasks_blocked()
        assert world.calls.count("wait c1") == 1
        here.lanes.abandon(C1)


async def test_a_guest_that_does_not_answer_is_told_of_while_its_end_is_waited_for(
    quay, world
) -> None:
    world.faults["health"].extend(GuestError("no answer") for _ in range(6))
    async with quay() as here:
        here.lanes.watch(here.ticket(), Watch(handle=HANDLE))
        here.lanes.watch(here.ticket(), ASK)
        await anyio.sleep(60)
        ((number, unhealthy),) = here.posted
        assert number == 2
        assert isinstance(unhealthy, Unhealthy)
        world.end("c1", Exit(code=0))
        await wait_all_tasks_blocked()
        assert here.posted[1:] == [(1, Exited(exit=Exit(code=0)))]


async def test_an_abandoned_watch_says_nothing(quay, world) -> None:
    async with quay() as here:
        here.lanes.watch(here.ticket(), Watch(handle=HANDLE))
        here.lanes.watch(here.ticket(), ASK)
        await wait_all_tasks_blocked()
        here.lanes.abandon(C1)
        world.end("c1", Exit(code=0))
        await wait_all_tasks_blocked()
        assert here.posted == []


async def test_nothing_is_kept_of_lanes_that_are_done(quay, world) -> None:
    async with quay() as here:
        for number in range(50):
            name = f"c{number}"
            here.submit(create(name), id_=name)
            watch = Watch(handle=Handle(id=ContainerId(name)))
            here.lanes.watch(here.ticket(name), watch)
        await checkpoint()
        for number in range(50):
            here.lanes.forget(ContainerId(f"c{number}"))
        await wait_all_tasks_blocked()
        assert here.lanes._lanes == {}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio, nobody can make one
async def test_what_a_plugin_cancels_of_its_own_ends_its_effect_alone(quay, world) -> None:
    world.faults["create"].append(anyio.get_cancelled_exc_class()())
    async with quay() as here:
        here.submit(create())
        here.submit(create("c2"), id_="c2")
        await wait_all_tasks_blocked()
        (_, failed), (_, created) = here.posted
        assert isinstance(failed, Failed)
        assert "create raised CancelledError" in failed.why.message
        assert isinstance(created, Created)
