"""The driver `faulty`, through the adapter that the worker uses."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import anyio
import pytest
from longshore_core import (
    BackendError,
    CapacityExhausted,
    Chunk,
    ConfigError,
    ContainerId,
    ContainerSpec,
    EngineUnavailable,
    Exit,
    Gap,
    Handle,
    Host,
    ImageError,
    Phase,
    PluginCrash,
    Stream,
    Transition,
    UnknownPlugin,
)
from longshore_core._plugins import hooks
from longshore_core._plugins.opening import AdaptedDriver, opened
from longshore_core.testing.faulty import FaultyDriver
from longshore_core.testing.scripted import ScriptedDriver

NULL = {"wraps": {"type": "null"}}


@asynccontextmanager
async def no_transitions() -> AsyncGenerator[AsyncIterator[Transition | Gap]]:
    async def none() -> AsyncIterator[Transition | Gap]:
        return
        yield

    yield none()


@asynccontextmanager
async def faulty(place: Path, **config: object) -> AsyncGenerator[AdaptedDriver]:
    selected = hooks.select(hooks.DRIVERS, "faulty")
    host = Host(
        name="faulty",
        owner="worker-1/driver",
        state_dir=place,
        logger=logging.getLogger("test"),
        transitions=no_transitions,
    )
    async with opened(selected, config, host, "driver") as runtime:
        yield AdaptedDriver(runtime, selected.origin)


def spec(id_: str = "c1", *argv: str, image: str | None = None) -> ContainerSpec:
    return ContainerSpec(id=ContainerId(id_), argv=argv or ("sleep", "1"), image=image)


def inner(driver: AdaptedDriver) -> FaultyDriver:
    assert isinstance(driver.runtime.driver, FaultyDriver)
    return driver.runtime.driver


async def test_without_faults_it_is_what_it_wraps(tmp_path: Path) -> None:
    async with faulty(tmp_path, **NULL) as driver:
        handle = await driver.create(spec())
        await driver.start(handle)
        await driver.signal(handle, SIGTERM)
        assert await driver.wait(handle) == Exit(signal=SIGTERM)
        await driver.remove(handle)
        assert await driver.survey() == []


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ({"do": "raise"}, BackendError, "failed at create.before of c1, by the script"),
        ({"do": "raise", "error": "image"}, ImageError, "failed at create.before"),
        ({"do": "raise", "error": "capacity"}, CapacityExhausted, "not enough failed at"),
        (
            {"do": "crash"},
            PluginCrash,
            r"plugin faulty \(longshore-core .*\): create raised RuntimeError: crashed at",
        ),
    ],
)
async def test_a_fault_before_a_call_keeps_it_from_being_done(
    tmp_path: Path, fault: dict, kind: type[Exception], message: str
) -> None:
    async with faulty(tmp_path, **NULL, faults=[{"at": "create.before", **fault}]) as driver:
        with pytest.raises(kind, match=message):
            await driver.create(spec())
        assert await driver.survey() == []


async def test_a_dropped_reply_is_of_a_call_that_was_done(tmp_path: Path) -> None:
    faults = [{"at": "create.after", "do": "drop_reply", "times": 1}]
    async with faulty(tmp_path, **NULL, faults=faults) as driver:
        with pytest.raises(EngineUnavailable, match=r"no reply at create\.after of c1"):
            await driver.create(spec())
        assert [found.phase for found in await driver.survey()] == [Phase.CREATED]
        await driver.create(spec())
        assert [item.container for item in inner(driver).struck] == ["c1"]


async def test_what_hangs_waits_until_it_is_cancelled(tmp_path: Path) -> None:
    async with faulty(tmp_path, **NULL, faults=[{"at": "survey.after", "do": "hang"}]) as driver:
        with anyio.move_on_after(0.02) as scope:
            await driver.survey()
        assert scope.cancelled_caught


async def test_what_is_delayed_is_done_later(tmp_path: Path) -> None:
    faults = [{"at": "remove.before", "do": "delay", "seconds": 0.05}]
    async with faulty(tmp_path, **NULL, faults=faults) as driver:
        began = anyio.current_time()
        await driver.remove(Handle(id=ContainerId("c1")))
        assert anyio.current_time() - began >= 0.05


async def fates(place: Path, ids: list[str], seed: int) -> dict[str, str]:
    faults = [{"at": "create.before", "do": "raise", "p": 0.5}]
    place.mkdir()
    found = {}
    async with faulty(place, **NULL, faults=faults, seed=seed) as driver:
        for id_ in ids:
            try:
                await driver.create(spec(id_))
                found[id_] = "made"
            except BackendError:
                found[id_] = "failed"
    return found


async def test_a_seed_decides_alike_in_whichever_order_containers_come(tmp_path: Path) -> None:
    ids = [f"c{number}" for number in range(40)]
    forth = await fates(tmp_path / "1", ids, 7)
    assert forth == await fates(tmp_path / "2", ids[::-1], 7)
    assert forth != await fates(tmp_path / "3", ids, 8)
    assert {"made", "failed"} == set(forth.values())


async def test_healed_it_passes_everything_on(tmp_path: Path) -> None:
    async with faulty(tmp_path, **NULL, faults=[{"at": "survey.before", "do": "raise"}]) as driver:
        with pytest.raises(BackendError):
            await driver.survey()
        inner(driver).heal()
        assert await driver.survey() == []


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, "driver: give either `wraps`, a driver, or `script`, in place of one"),
        ({**NULL, "script": {}}, "driver: give either `wraps`"),
        (
            {**NULL, "faults": [{"at": "wait.before", "do": "drop_reply"}]},
            "driver.faults.0: drop_reply has the call done; it goes with `at: wait.after`",
        ),
        ({**NULL, "faults": [{"at": "wiat.after", "do": "raise"}]}, "driver.faults.0.at: "),
        ({"wraps": {"type": "null", "depth": 1}}, "driver.wraps.depth: Extra inputs"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_its_path(
    tmp_path: Path, config: dict, complaint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        async with faulty(tmp_path, **config):
            pass
    assert str(refused.value).startswith(complaint)


async def test_a_driver_that_is_not_there_is_missed_at_its_path(tmp_path: Path) -> None:
    with pytest.raises(UnknownPlugin, match=r"^driver.wraps.type: no plugin named 'nul'; did you"):
        async with faulty(tmp_path, wraps={"type": "nul"}):
            pass


async def test_a_script_stands_in_for_containers(tmp_path: Path) -> None:
    script = {"run_for": 0, "exit_code": 3, "stdout": "hi\n", "repeat": 2}
    async with faulty(tmp_path, script=script) as driver:
        handle = await driver.create(spec())
        await driver.start(handle)
        assert await driver.wait(handle) == Exit(code=3)
        scripted = inner(driver).inner
        assert isinstance(scripted, ScriptedDriver)
        assert scripted.output(ContainerId("c1")) == ("hi\nhi\n", "")


async def test_what_a_script_says_is_in_the_containers_log(tmp_path: Path) -> None:
    script = {"run_for": 0.05, "stdout": "héllo\n", "stderr": "oh\n"}
    async with faulty(tmp_path, script=script) as driver:
        handle = await driver.create(spec())
        assert await read(driver, handle) == []
        whole = list[Chunk]()

        async def follow() -> None:
            whole.extend(await read(driver, handle, follow=True))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                await anyio.wait_all_tasks_blocked()
                await driver.start(handle)
        said = [Chunk(Stream.STDOUT, 0, "héllo\n".encode()), Chunk(Stream.STDERR, 7, b"oh\n")]
        assert whole == said
        assert await read(driver, handle, offset=8) == [Chunk(Stream.STDERR, 8, b"h\n")]
        await driver.remove(handle)
        with pytest.raises(BackendError, match="there is no container c1"):
            await read(driver, handle)


async def read(driver: AdaptedDriver, handle: Handle, **how: Any) -> list[Chunk]:
    async with driver.logs(handle, **how) as chunks:
        return [chunk async for chunk in chunks]


async def test_the_first_script_that_matches_image_and_argv_is_the_one(tmp_path: Path) -> None:
    scripts = [
        {"match": "broken *", "start_error": "image"},
        {"match": "* false", "run_for": 0, "exit_code": 1},
        {"match": "* crash*", "run_for": 0, "exit_signal": 11},
    ]
    async with faulty(tmp_path, script=scripts) as driver:
        with pytest.raises(ImageError, match="the script of c1 says so"):
            await driver.start(await driver.create(spec("c1", image="broken")))
        for id_, argv, exit_ in (("c2", "false", Exit(code=1)), ("c3", "crash", Exit(signal=11))):
            handle = await driver.create(spec(id_, argv))
            await driver.start(handle)
            assert await driver.wait(handle) == exit_
        await driver.start(await driver.create(spec("c4")))
        assert [item.phase for item in await driver.survey() if item.id == "c4"] == [Phase.RUNNING]


async def test_who_waits_hears_of_the_signal_that_ends_a_scripted_container(tmp_path: Path) -> None:
    exits = []
    async with faulty(tmp_path, script={"deaf": True}) as driver:
        handle = await driver.create(spec())
        await driver.start(handle)

        async def wait() -> None:
            exits.append(await driver.wait(handle))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await driver.signal(handle, SIGTERM)
                await driver.signal(handle, SIGKILL)
    assert exits == [Exit(signal=SIGKILL)] * 2


async def test_scripted_containers_are_found_by_whoever_opens_the_driver_again(
    tmp_path: Path,
) -> None:
    async with faulty(tmp_path, script={"run_for": 600}) as driver:
        for id_ in ("c1", "c2"):
            handle = await driver.create(spec(id_))
        await driver.start(handle)
    async with faulty(tmp_path, script={}) as driver:
        found = {item.id: item.phase for item in await driver.survey()}
        assert found == {"c1": Phase.CREATED, "c2": Phase.RUNNING}
        for item in await driver.survey():
            await driver.remove(item.handle)
        assert await driver.survey() == []
        assert await driver.wait(handle) == Exit()
