"""The keeper over the null driver, with no server and no time but the test's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup
from longshore_core import (
    ContainerId,
    ContainerSpec,
    EngineUnavailable,
    Facts,
    Found,
    Handle,
    Phase,
    PluginCrash,
)
from longshore_core._builtin.bare_guest import BareGuest
from longshore_core._builtin.no_secrets import NoSecrets
from longshore_core._builtin.null_driver import NullDriver
from longshore_core._builtin.open_network import OpenNetwork
from longshore_core._machine.ledger import Capacity, Ledger
from longshore_core._machine.life import Order, Running, Terminated
from longshore_core._machine.reports import ContainerTerminated
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import Admission
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core._worker.desk import KeepersDesk
from longshore_core._worker.effects import Backends, Blamed, Performer
from longshore_core._worker.keeper import Keeper, Keeping
from longshore_core._worker.lanes import Lanes
from longshore_core._worker.routes import RouteFeed
from longshore_core._worker.store import open_store
from longshore_core._worker.surveys import Patience, Survey
from longshore_core._worker.transitions import Transitions
from longshore_core.abc import Runtime

ORIGIN = Installed(group="g", name="n", value="v", distribution="d", version="1")
ID = ContainerId("c1")


class Bench:
    """A keeper and what it works with."""

    def __init__(self, keeper: Keeper, lanes: Lanes, driver: NullDriver, tasks: TaskGroup) -> None:
        self.keeper, self.lanes, self.driver, self._tasks = keeper, lanes, driver, tasks
        self.desk = KeepersDesk(keeper, RouteFeed())

    async def recover(self, survey: Survey | None = None) -> None:
        await self.keeper.recover(self.lanes, survey or self.driver.survey)
        self._tasks.start_soon(self.keeper.run)

    async def until(self, life: type) -> None:
        with anyio.fail_after(10):
            while not isinstance(self.keeper.containers[ID].life, life):
                await self.keeper.changed()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    driver = NullDriver()
    backends = Backends(
        driver=AdaptedDriver(Runtime(driver=driver, facts=Facts()), ORIGIN),
        guest=Blamed(thing=BareGuest(), origin=ORIGIN),
        network=Blamed(thing=OpenNetwork(), origin=ORIGIN),
        secrets=Blamed(thing=NoSecrets(), origin=ORIGIN),
        admission=Admission(voters=()),
    )
    async with open_store(tmp_path / "worker.sqlite") as store:
        keeping = Keeping(
            store=store,
            routes=RouteFeed(),
            transitions=Transitions(),
            clock=lambda: 0.0,
            patience=Patience(seconds=0.05, pause=0.01),
        )
        total = Capacity(cpu_millis=1, memory_bytes=1, disk_bytes=1)
        keeper = Keeper(keeping, Ledger(total=total))
        async with anyio.create_task_group() as tasks:
            lanes = Lanes(tasks, Performer(backends, "w"), keeper.post, lambda _point: None)
            yield Bench(keeper, lanes, driver, tasks)
            tasks.cancel_scope.cancel()


async def crashing() -> Sequence[Found]:
    raise PluginCrash("acme", "survey raised ZeroDivisionError")


async def test_a_sweep_that_a_driver_spoils_is_left_to_the_next_one(bench: Bench) -> None:
    await bench.recover()
    await bench.keeper.sweep(bench.lanes, crashing)
    await bench.keeper.sweep(bench.lanes, anyio.sleep_forever)


async def test_an_engine_that_does_not_answer_is_asked_again(bench: Bench) -> None:
    asked = []

    async def slow_at_first() -> Sequence[Found]:
        asked.append(len(asked))
        if len(asked) == 1:
            await anyio.sleep_forever()
        if len(asked) == 2:
            raise EngineUnavailable("not yet")
        return []

    with anyio.fail_after(10):
        await bench.recover(slow_at_first)
    assert len(asked) == 3


async def test_what_is_found_and_on_no_record_is_removed(bench: Bench) -> None:
    await bench.driver.create(ContainerSpec(id=ContainerId("stray"), argv=()))
    stray = Found(
        id=ContainerId("stray"), handle=Handle(id=ContainerId("stray")), phase=Phase.CREATED
    )

    async def survey() -> Sequence[Found]:
        return [stray]

    await bench.recover(survey)
    with anyio.fail_after(10):
        while await bench.driver.survey():
            await anyio.wait_all_tasks_blocked()


async def test_a_wish_that_comes_twice_runs_nothing_again(bench: Bench) -> None:
    await bench.recover()
    order = Order(id=ID, sandbox_id="s1")
    await bench.desk.want(order)
    await bench.until(Running)
    await bench.driver.remove(Handle(id=ID))
    await bench.until(Terminated)
    await bench.desk.want(order)
    assert isinstance(bench.keeper.containers[ID].life, Terminated)
    ends = [item.report for item in bench.desk.reports]
    assert [end.incarnation for end in ends if isinstance(end, ContainerTerminated)] == [1]


async def test_another_wish_under_the_id_of_what_has_ended_begins_a_new_life(bench: Bench) -> None:
    await bench.recover()
    await bench.desk.want(Order(id=ID, sandbox_id="s1"))
    await bench.until(Running)
    await bench.driver.remove(Handle(id=ID))
    await bench.until(Terminated)
    await bench.desk.want(Order(id=ID, sandbox_id="s2"))
    await bench.until(Running)
    assert bench.keeper.containers[ID].incarnation == 2


async def test_what_was_delivered_and_forgotten_may_be_wanted_again(bench: Bench) -> None:
    await bench.recover()
    order = Order(id=ID, sandbox_id="s1")
    for _ in range(2):
        await bench.desk.want(order)
        await bench.until(Running)
        await bench.driver.remove(Handle(id=ID))
        await bench.until(Terminated)
        await bench.desk.taken(frozenset(item.number for item in bench.desk.reports))
        assert ID not in bench.keeper.containers
