"""Directories for sockets: none is left over of what was never made, and none in use goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from longshore_core import BackendError, ContainerSpec, EngineUnavailable, Handle
from longshore_core.abc import Host
from longshore_core.testing.bench import bare_host

from tests.engines import images
from tests.engines.between import Exchange
from tests.engines.dockerd import Docker

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]


def directories(host: Host) -> int:
    return len(list(Path(host.state_dir, "sockets").iterdir()))


@pytest.fixture
def away() -> anyio.Event:
    return anyio.Event()


@pytest.fixture
def open_killed(open_between: Opener, away: anyio.Event) -> Opener:
    """Open the driver on an engine that is killed when it is to make a certain container."""

    def open_(doomed: ContainerSpec) -> object:
        async def engine(exchange: Exchange) -> None:
            if f"name=indexify-{doomed.id}" in exchange.query and not away.is_set():
                return
            if doomed.id in exchange.request and not away.is_set():
                return
            await exchange.forward()

        return open_between(engine)

    return open_


async def test_what_an_engine_that_was_killed_did_not_make_leaves_nothing(
    open_killed: Opener, shell: Shell, host: Host, away: anyio.Event
) -> None:
    doomed, other = shell(name="doomed", sockets=True), shell(name="other", sockets=True)
    async with open_killed(doomed) as runtime:
        driver = runtime.driver
        kept = await driver.create(other)
        with pytest.raises(EngineUnavailable):
            await driver.create(doomed)
        away.set()
        (found,) = await driver.survey()
        assert found.id == other.id
        assert directories(host) == 1
        assert (await driver.start(kept)).reach is not None
        await driver.remove(kept)
        assert directories(host) == 0


async def test_the_next_worker_removes_what_is_left_and_not_what_is_in_use(
    open_killed: Opener, open_driver: Opener, shell: Shell, host: Host
) -> None:
    doomed, mine, others = (shell(name=name, sockets=True) for name in ("doomed", "mine", "others"))
    somebody = bare_host("docker", "somebody/driver", Path(host.state_dir))
    async with open_driver(somebody) as runtime:
        theirs = await runtime.driver.create(others)
    async with open_killed(doomed) as runtime:
        handle = await runtime.driver.create(mine)
        with pytest.raises(EngineUnavailable):
            await runtime.driver.create(doomed)
    assert directories(host) == 3
    async with open_driver() as runtime:
        (found,) = await runtime.driver.survey()
        assert found.handle == handle
        # One of an owner that this worker was before, too.
        assert directories(host) == 2
        await runtime.driver.remove(handle)
    async with open_driver(somebody) as runtime:
        assert directories(host) == 1
        await runtime.driver.remove(theirs)
    assert directories(host) == 0


async def test_who_makes_it_after_all_while_others_are_looked_at_keeps_it(
    open_between: Opener, shell: Shell, host: Host
) -> None:
    spec = shell(sockets=True)
    is_lost, seen, made = True, anyio.Event(), anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if is_lost and (spec.id in exchange.request or spec.id in exchange.query):
            return
        if exchange.request == "GET /containers/json" and armed and not seen.is_set():
            answer = await exchange.engines_answer()
            seen.set()
            await made.wait()
            await exchange.send(answer)
        else:
            await exchange.forward()

    armed = False
    async with open_between(engine) as runtime:
        driver = runtime.driver
        with pytest.raises(EngineUnavailable):
            await driver.create(spec)
        is_lost, armed = False, True
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(driver.survey)
                await seen.wait()
                await driver.create(spec)
                made.set()
        assert directories(host) == 1
        await driver.remove(Handle(id=spec.id))


async def test_a_name_that_somebody_else_has_leaves_nothing(
    open_driver: Opener, docker: Docker, shell: Shell, host: Host
) -> None:
    spec = shell(sockets=True)
    name = f"indexify-{spec.id}"
    docker.run("create", "--name", name, images.BUSYBOX.reference, "true")
    try:
        async with open_driver() as runtime:
            with pytest.raises(BackendError, match="is taken by"):
                await runtime.driver.create(spec)
            assert await runtime.driver.survey() == []
            assert directories(host) == 0
    finally:
        docker.run("rm", "--force", name)
