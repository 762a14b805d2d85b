"""An engine that goes away and comes back: unknown is not dead."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from longshore_core import ContainerSpec, EngineUnavailable, Exit, Phase
from longshore_core.abc import Host
from longshore_docker import longshore_driver

from tests.engines import images
from tests.engines.between import Exchange, between
from tests.engines.dockerd import Docker, PrivateDocker
from tests.engines.processes import container_ids, wait_gone
from tests.engines.runtimes import SlowRuntime


@pytest.fixture
def private(require: Callable[..., None], docker_engine: Docker) -> Iterator[PrivateDocker]:
    """The engine of the tests. Not another one: two on a host take each other's rules away."""
    require(docker_engine.directory is not None, "an engine of the tests' own, to stop and start")
    assert docker_engine.directory is not None
    docker_engine.load(images.BUSYBOX)
    engine = PrivateDocker(docker_engine.directory)
    yield engine
    engine.start()


@pytest.fixture
def open_driver(private: PrivateDocker, host: Host) -> Callable[..., object]:
    def open_(**config: object) -> object:
        plug = longshore_driver()
        given = {"address": private.docker.address, "ready_networks": 0, **config}
        return plug.open(plug.config.model_validate(given), host)

    return open_


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
async def test_an_engine_that_comes_back_finds_everything_as_it_was(
    private: PrivateDocker,
    open_driver: Callable[..., object],
    shell: Callable[..., ContainerSpec],
    number: signal.Signals,
) -> None:
    async with open_driver(ready_networks=1) as runtime:
        driver = runtime.driver
        handle = await driver.create(shell())
        before = await driver.start(handle)
        ends = list[Exit]()

        async def wait() -> None:
            ends.append(await driver.wait(handle))

        with anyio.fail_after(90):
            async with runtime.health.fingerprints() as prints, anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                assert (await anext(prints)).healthy
                private.stop(number)
                with pytest.raises(EngineUnavailable, match="does not answer"):
                    await driver.survey()
                while (await anext(prints)).healthy:
                    pass
                private.start()
                while not (await anext(prints)).healthy:
                    pass
                (found,) = await driver.survey()
                assert (found.phase, found.attachment) == (Phase.RUNNING, before)
                assert ends == []
                await driver.signal(handle, signal.SIGKILL)
        assert ends == [Exit(signal=signal.SIGKILL)]
        await driver.remove(handle)
        assert await driver.survey() == []


@pytest.mark.parametrize("starts", [True, False])
async def test_one_that_the_engine_was_killed_over_while_it_began_can_be_started_and_removed(
    private: PrivateDocker,
    open_driver: Callable[..., object],
    shell: Callable[..., ContainerSpec],
    tmp_path: Path,
    starts: bool,
) -> None:
    """The runtime has it, and dockerd does not know that: it would leave it for ever."""
    slow = SlowRuntime(private.runtime, tmp_path)
    async with open_driver(runtime="own", network="none") as runtime:
        driver = runtime.driver
        handle = await driver.create(shell())
        name = f"indexify-{handle.id}"
        id_ = private.docker.run("inspect", "--format", "{{.Id}}", name)

        async def start() -> None:
            with pytest.raises(EngineUnavailable):
                await driver.start(handle)

        with anyio.fail_after(90):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(start)
                while not slow.has_made:
                    await anyio.sleep(0.01)
                private.stop(signal.SIGKILL)
            slow.let_go()
            private.start()
            if starts:
                await driver.start(handle)
                (found,) = await driver.survey()
                assert found.phase is Phase.RUNNING
            await driver.remove(handle)
            assert await driver.survey() == []
            while id_ in container_ids():
                # containerd is about it.
                await anyio.sleep(0.01)


async def test_what_ended_while_the_engine_was_away_is_heard_of(
    private: PrivateDocker,
    open_driver: Callable[..., object],
    shell: Callable[..., ContainerSpec],
) -> None:
    async with open_driver() as runtime:
        driver = runtime.driver
        handle = await driver.create(shell("exec sleep 1"))
        await driver.start(handle)
        ends = list[Exit]()

        async def wait() -> None:
            ends.append(await driver.wait(handle))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                private.stop()
                private.start()
        assert ends == [Exit(code=0)]
        await driver.remove(handle)


async def test_namespaces_that_ended_with_the_engine_are_given_to_nobody(
    private: PrivateDocker,
    open_driver: Callable[..., object],
    shell: Callable[..., ContainerSpec],
    owner: str,
    tmp_path: Path,
) -> None:
    filters = ("--filter", f"label=longshore.owner={owner}")
    may_look = anyio.Event()
    may_look.set()

    async def engine(exchange: Exchange) -> None:
        if exchange.request == "GET /containers/json":
            await may_look.wait()
        await exchange.forward()

    path = private.docker.address.removeprefix("unix://")
    async with (
        between(tmp_path / "between", engine, path) as address,
        open_driver(ready_networks=4, address=address) as runtime,
    ):
        driver = runtime.driver
        with anyio.fail_after(60):
            while len(holders := private.docker.run("ps", "--quiet", *filters).split()) < 4:
                await anyio.sleep(0.05)
        pids = private.docker.run("inspect", "--format", "{{.State.Pid}}", *holders).split()
        private.stop()
        # As all do whose engine does not let them live on.
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
            wait_gone(int(pid))
        may_look = anyio.Event()
        private.start()
        for number in range(4):
            handle = await driver.create(shell(name=f"c{number}"))
            await driver.start(handle)
        may_look.set()
        for found in await driver.survey():
            await driver.remove(found.handle)


async def test_a_driver_that_was_opened_without_its_engine_works_when_it_comes(
    private: PrivateDocker,
    open_driver: Callable[..., object],
    shell: Callable[..., ContainerSpec],
) -> None:
    private.stop()
    try:
        async with open_driver() as runtime:
            with pytest.raises(EngineUnavailable):
                await runtime.driver.create(shell())
            private.start()
            handle = await runtime.driver.create(shell("exit 4"))
            await runtime.driver.start(handle)
            assert await runtime.driver.wait(handle) == Exit(code=4)
            await runtime.driver.remove(handle)
    finally:
        private.start()
