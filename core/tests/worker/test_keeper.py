"""The keeper with its lanes, its store and its clock, against a world that a test holds."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from longshore_core import (
    BackendError,
    ContainerId,
    EngineUnavailable,
    Exit,
    Handle,
    Limits,
    NetworkPolicy,
    Phase,
)
from longshore_core._machine.life import (
    Created,
    Creating,
    Ending,
    Order,
    Running,
    Terminated,
    TerminationReason,
)
from longshore_core._machine.reports import ContainerStarted, ContainerTerminated
from longshore_core._worker.mail import Refusal, Taken, Ticket
from longshore_core._worker.store import Changes, open_store
from longshore_core.testing.samples import LIVES, container

from tests.loops import ASYNCIO, Backend

C1 = ContainerId("c1")

ORDER = Order(id=C1, sandbox_id="s1")
WHY = Ending(reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR, message="cannot be")


async def test_what_is_done_was_committed_before(harbour) -> None:
    async with harbour() as here:
        await here.want(ORDER)
        await here.reaches("running")
    effects = [point for point in here.points if point.startswith(("commit", "create", "start"))]
    assert effects[2:6] == ["commit:before", "commit:after", "create:before", "create c1"]
    for effect in ("create:before", "start:before", "admit:before", "release:before"):
        at = here.points.index(effect)
        assert here.points[:at].count("commit:before") == here.points[:at].count("commit:after")


async def test_what_an_older_worker_has_read_of_a_wish_does_not_make_it_another(
    harbour, world
) -> None:
    order = replace(ORDER, description=b"as the server has sent it")
    async with harbour() as here:
        await here.want(order)
        await here.reaches("running")
        world.end("c1", Exit(code=0))
        await here.ends()
        await here.want(replace(order, pool_id="p1"))
        assert world.calls.count("create c1") == 1
        await here.want(replace(order, description=b"another"))
        await here.reaches("running")


async def test_a_container_is_reported_started_once_and_ended_once(harbour, world) -> None:
    async with harbour() as here:
        await here.want(ORDER)
        await here.want(ORDER)
        await here.reaches("running")
        world.end("c1", Exit(code=3))
        ended = await here.ends()
        kinds = [type(item.report) for item in here.keeper.reports]
        numbers = frozenset(item.number for item in here.keeper.reports)
        await here.keeper.submit(Taken(numbers=numbers))
        assert C1 not in here.keeper.containers
        assert list(here.keeper.reports) == []
    assert kinds == [ContainerStarted, ContainerTerminated]
    assert ended.why.exit == Exit(code=3)
    assert world.found == {}


async def test_what_is_unwanted_while_it_is_created_is_given_up_at_once(harbour, world) -> None:
    world.gates["create"] = anyio.Event()
    async with harbour() as here:
        await here.want(ORDER)
        await here.until(lambda: "create c1" in world.calls)
        await here.unwant()
        ended = await here.ends()
    assert world.cancelled == ["create c1"]
    assert ended.why.reason is TerminationReason.FUNCTION_CANCELLED
    assert [call.split()[0] for call in world.calls[-2:]] == ["revoke", "survey"]


async def test_a_create_that_cannot_be_cancelled_is_undone_and_its_answer_is_stale(
    harbour, world
) -> None:
    world.gates["create"] = anyio.Event()
    world.stubborn.add("create")
    async with harbour() as here:
        await here.want(ORDER)
        await here.until(lambda: "create c1" in world.calls)
        await here.unwant()
        world.gates["create"].set()
        await here.ends()
        assert here.keeper.quarantined == 0
    assert "start c1" not in world.calls
    assert world.calls[-1] == "remove c1"
    assert world.found == {}


async def test_a_refusal_does_not_overwrite_what_lives(harbour, world) -> None:
    async with harbour() as here:
        await here.want(ORDER)
        await here.reaches("running")
        await here.keeper.submit(Refusal(order=replace(ORDER, sandbox_id=None), why=WHY))
        assert isinstance(here.life(), Running)
        await here.keeper.submit(Refusal(order=Order(id=ContainerId("c2")), why=WHY))
        assert here.life("c2") == Terminated(why=WHY)
    assert "remove c1" not in world.calls


async def test_a_change_begins_no_life(harbour, world) -> None:
    async with harbour() as here:
        await here.want(ORDER, begins=False)
        assert here.life() is None
        await here.want(ORDER)
        await here.reaches("running")
        await here.unwant()
        world.end("c1", Exit(code=0))
        await here.ends()
        await here.want(replace(ORDER, timeout_seconds=5), begins=False)
        assert isinstance(here.life(), Terminated)
        await here.want(replace(ORDER, timeout_seconds=5))
        await here.reaches("running")
        assert here.keeper.containers[C1].incarnation == 2


async def test_a_policy_that_changes_while_it_starts_is_in_force_before_it_is_let_go(
    harbour, world
) -> None:
    world.gates["admit"] = anyio.Event()
    async with harbour() as here:
        await here.want(ORDER)
        await here.until(lambda: "admit c1" in world.calls)
        await here.want(replace(ORDER, policy=NetworkPolicy(allow_internet_access=False)))
        world.gates["admit"].set()
        await here.reaches("running")
    steps = [point for point in here.points if point in ("admit closed c1", "release:before")]
    assert steps == ["admit closed c1", "release:before"]


async def test_what_there_is_no_room_for_is_refused_until_there_is(harbour, world) -> None:
    large = Limits(memory_bytes=1 << 30)
    async with harbour() as here:
        await here.want(replace(ORDER, limits=large))
        other = Order(id=ContainerId("c2"), limits=large)
        await here.want(other)
        refused = here.life("c2")
        assert isinstance(refused, Terminated)
        assert refused.why.code == "CAPACITY_EXHAUSTED"
        await here.reaches("running")
        world.end("c1", Exit(code=0))
        await here.ends()
        await here.want(replace(other, timeout_seconds=5))
        await here.reaches("running", "c2")


async def test_an_impossible_fact_quarantines_its_container_alone(harbour) -> None:
    async with harbour() as here:
        for name in ("c1", "c2"):
            await here.want(Order(id=ContainerId(name)))
            await here.reaches("running", name)
        ticket = Ticket(container=C1, incarnation=1, number=10_000)
        here.keeper.post(ticket, Created(handle=Handle(id=C1)))
        ended = await here.ends()
        assert ended.why.code == "KERNEL_BUG"
        assert here.keeper.quarantined == 1
        assert isinstance(here.life("c2"), Running)


async def test_everything_is_removed_and_waited_for(harbour, world) -> None:
    world.stubborn.add("create")
    async with harbour() as here:
        for number in range(5):
            await here.want(Order(id=ContainerId(f"c{number}")))
        await here.reaches("running", "c0")
        for number in range(5):
            world.end(f"c{number}", Exit(code=0))
        with anyio.fail_after(10):
            await here.keeper.remove_all("the worker stops")
        assert {item.life.tag for item in here.keeper.containers.values()} == {"terminated"}
    assert world.found == {}


async def test_strays_lose_their_policy_too(harbour, world) -> None:
    world.runs("stray")
    async with harbour() as here:
        await here.until(lambda: "remove stray" in world.calls)
        world.runs("other")
        await here.keeper.sweep(here.lanes, world.survey)
        await here.until(lambda: "remove other" in world.calls)
    revoked = [call for call in world.calls if call.startswith(("revoke", "remove"))]
    assert revoked == ["revoke stray", "remove stray", "revoke other", "remove other"]


@pytest.mark.parametrize("fault", [EngineUnavailable("away"), BackendError("broken")])
async def test_a_sweep_that_fails_harms_nobody(harbour, world, fault) -> None:
    async with harbour() as here:
        await here.want(ORDER)
        await here.reaches("running")
        world.faults["survey"].append(fault)
        await here.keeper.sweep(here.lanes, world.survey)
        assert isinstance(here.life(), Running)


class TestRecovery:
    @pytest.fixture
    def anyio_backend(self) -> Backend:
        return ASYNCIO  # the store's own thread takes most of the time here

    @pytest.mark.parametrize("life", LIVES, ids=lambda life: life.tag)
    @pytest.mark.parametrize("phase", [None, *Phase], ids=str)
    async def test_every_stored_state_goes_on_to_an_end(
        self, harbour, world, tmp_path: Path, life, phase
    ) -> None:
        stored = container(life)
        stored = replace(stored, order=ORDER, claimed_at=None, token="t")
        async with open_store(tmp_path / "worker.sqlite") as store:
            await store.commit(Changes(put={C1: stored}))
        world.runs("c1")
        if phase is None:
            world.found.clear()
        else:
            world.found[C1] = replace(
                world.found[C1],
                phase=phase,
                attachment=world.found[C1].attachment if phase is Phase.RUNNING else None,
                exit=Exit(code=0) if phase is Phase.EXITED else None,
            )
        async with harbour() as here:
            await here.until(
                lambda: here.life() and here.life().tag in ("running", "stopping", "terminated")
            )
            await here.unwant()
            world.end("c1", Exit(code=0))
            await here.ends()
            await here.until(lambda: not world.found)
            assert here.keeper.quarantined == 0

    async def test_a_create_in_flight_is_asked_for_again(self, harbour, world) -> None:
        world.gates["create"] = anyio.Event()
        async with harbour() as here:
            await here.want(ORDER)
            await here.until(lambda: "create c1" in world.calls)
        del world.gates["create"]
        async with harbour() as here:
            await here.reaches("running")
        assert world.calls.count("create c1") == 2

    async def test_reports_and_their_numbers_outlive_the_worker(self, harbour, world) -> None:
        async with harbour() as here:
            await here.want(ORDER)
            await here.reaches("running")
            (first,) = here.keeper.reports
        async with harbour() as here:
            assert list(here.keeper.reports) == [first]
            world.end("c1", Exit(code=0))
            await here.ends()
            assert [item.number for item in here.keeper.reports] == [1, 2]


class TestTime:
    @pytest.fixture
    def anyio_backend(self, virtual_time):
        return virtual_time

    async def test_a_timeout_stops_and_then_kills(self, harbour, world) -> None:
        async with harbour() as here:
            began = anyio.current_time()
            await here.want(replace(ORDER, timeout_seconds=600))
            await here.reaches("stopping")
            assert 600 <= anyio.current_time() - began < 601
            ended = await here.ends()
            assert 610 <= anyio.current_time() - began < 612
        assert ended.why.reason is TerminationReason.FUNCTION_TIMEOUT
        assert "signal SIGTERM c1" in world.calls

    async def test_a_deadline_outlives_the_worker(self, harbour, world) -> None:
        async with harbour() as here:
            began = anyio.current_time()
            await here.want(replace(ORDER, timeout_seconds=600))
            await here.reaches("running")
        await anyio.sleep(300)
        async with harbour() as here:
            await here.reaches("stopping")
            assert 600 <= anyio.current_time() - began < 601

    async def test_a_deadline_that_was_slept_through_is_kept_soon_after(
        self, harbour, world
    ) -> None:
        async with harbour() as here:
            await here.want(replace(ORDER, timeout_seconds=600))
            await here.reaches("running")
            began, here.slept = anyio.current_time(), 3600.0
            await here.reaches("stopping")
            assert anyio.current_time() - began < 40

    async def test_a_removal_is_tried_until_it_is_done(self, harbour, world) -> None:
        world.faults["remove"].extend(BackendError("busy") for _ in range(4))
        async with harbour() as here:
            await here.want(ORDER)
            await here.reaches("running")
            await here.unwant()
            world.end("c1", Exit(code=0))
            await here.ends()
        assert world.calls.count("remove c1") == 5

    async def test_a_slow_removal_is_not_cut_short_by_a_policy_that_stays(
        self, harbour, world
    ) -> None:
        world.faults["revoke"].extend(BackendError("the table is locked") for _ in range(2))
        world.gates["remove"] = anyio.Event()
        async with harbour() as here:
            await here.want(ORDER)
            await here.reaches("running")
            world.end("c1", Exit(code=0))
            await here.until(lambda: "remove c1" in world.calls)
            await anyio.sleep(5)
            world.gates["remove"].set()
            await here.ends()
        assert world.cancelled == ["wait c1"] * world.cancelled.count("wait c1")
        assert world.calls.count("revoke c1") == 3

    async def test_an_engine_that_cannot_be_asked_is_waited_for(self, harbour, world) -> None:
        world.runs("stray")
        world.faults["survey"].extend(EngineUnavailable("away") for _ in range(3))
        async with harbour() as here:
            assert world.calls[:4] == ["survey"] * 4
            await here.until(lambda: "remove stray" in world.calls)

    async def test_a_survey_without_an_answer_is_asked_for_again(self, harbour, world) -> None:
        world.gates["survey"] = anyio.Event()

        async def answer_later() -> None:
            while world.calls.count("survey") < 3:
                await anyio.sleep(10)
            world.gates["survey"].set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer_later)
            async with harbour():
                assert world.cancelled[:2] == ["survey", "survey"]

    async def test_a_disk_without_room_is_waited_for_and_nothing_is_done_meanwhile(
        self, harbour, world, tmp_path: Path
    ) -> None:
        async with harbour() as here:
            other = sqlite3.connect(tmp_path / "worker.sqlite")
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON container"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(here.want, ORDER)
                await anyio.sleep(30)
                assert isinstance(here.life(), Creating)
                assert world.calls == ["survey"]
                other.execute("DROP TRIGGER full")
                other.close()
            await here.reaches("running")
