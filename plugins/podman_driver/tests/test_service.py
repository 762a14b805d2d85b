"""The service goes away and comes back: nothing is taken for dead, and nobody restarts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import anyio
import pytest
from longshore_core import BackendError, ContainerSpec, EngineUnavailable, Exit, Limit, Phase
from longshore_core.abc import Host, Runtime
from longshore_podman import longshore_driver

from tests.engines import images
from tests.engines.podman import Podman, PrivatePodman
from tests.engines.processes import container_ids
from tests.engines.runtimes import SlowRuntime

Shell = Callable[..., ContainerSpec]


@pytest.fixture
def service(podman: Podman) -> Iterator[PrivatePodman]:
    """One that may be stopped."""
    if podman.directory is None:
        pytest.skip("the machine's own service is not for tests to stop")
    service = PrivatePodman(podman.directory)
    yield service
    service.start()


@pytest.fixture
def slow_service(podman: Podman) -> Iterator[tuple[PrivatePodman, SlowRuntime]]:
    """One of the test's own, beside the other: their containers have no network to share."""
    directory = Path(tempfile.mkdtemp(prefix="lsp-"))
    slow = SlowRuntime(directory / "slow", directory)
    service = PrivatePodman(directory, runtime=directory / "slow")
    try:
        service.start()
        service.podman.load(images.BUSYBOX)
        yield service, slow
    finally:
        slow.let_go()
        service.remove()


async def test_a_container_lives_through_a_stop_of_the_service_and_its_end_is_heard(
    runtime: Runtime, service: PrivatePodman, shell: Shell
) -> None:
    handle = await runtime.driver.create(shell())
    await runtime.driver.start(handle)
    ends = list[Exit]()

    async def wait() -> None:
        ends.append(await runtime.driver.wait(handle))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            service.stop(SIGKILL)
            with pytest.raises(EngineUnavailable):
                await runtime.driver.survey()
            service.start()
            (found,) = await runtime.driver.survey()
            assert found.phase is Phase.RUNNING
            await runtime.driver.signal(handle, SIGKILL)
    assert ends == [Exit(signal=SIGKILL)]


async def test_one_that_the_service_was_killed_over_can_be_removed(
    open_driver: Callable[..., object], service: PrivatePodman, shell: Shell, podman: Podman
) -> None:
    """Podman has it in its database, and not in its storage, and does not show it any more."""
    async with open_driver() as runtime:
        handle = await runtime.driver.create(shell())
        (stored,) = Path(service.directory).glob("root/*-containers/containers.json")
        service.stop(SIGKILL)
        kept = json.loads(stored.read_text(encoding="utf-8"))
        name = f"indexify-{handle.id}"
        stored.write_text(json.dumps([each for each in kept if name not in each["names"]]))
        service.start()
        with pytest.raises(RuntimeError, match="container not known"):
            podman.run("inspect", name)
        assert [each.handle for each in await runtime.driver.survey()] == [handle]
        with pytest.raises(BackendError):
            await runtime.driver.start(handle)
        await runtime.driver.remove(handle)
        assert await runtime.driver.survey() == []
    assert name not in podman.run("ps", "--all", "--format", "{{.Names}}")


@pytest.mark.parametrize("starts", [True, False])
async def test_one_that_the_service_was_killed_over_while_it_began_can_be_started_and_removed(
    slow_service: tuple[PrivatePodman, SlowRuntime], host: Host, shell: Shell, starts: bool
) -> None:
    """The runtime has it, and Podman does not know that: it would leave it for ever."""
    service, slow = slow_service
    plug = longshore_driver()
    config = {"address": service.podman.address, "network": "none"}
    async with plug.open(plug.config.model_validate(config), host) as runtime:
        handle = await runtime.driver.create(shell())
        (id_,) = service.podman.run("ps", "--all", "--quiet", "--no-trunc").split()

        async def start() -> None:
            with pytest.raises(EngineUnavailable):
                await runtime.driver.start(handle)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(start)
                while not slow.has_made:
                    await anyio.sleep(0.01)
                service.stop(SIGKILL)
            slow.let_go()
            service.start()
            verb = runtime.driver.start if starts else runtime.driver.remove
            with slow.refusing_to_delete(), pytest.raises(BackendError, match="delete --force"):
                await verb(handle)
            if starts:
                await runtime.driver.start(handle)
                (found,) = await runtime.driver.survey()
                assert found.phase is Phase.RUNNING
            await runtime.driver.remove(handle)
        assert await runtime.driver.survey() == []
        assert id_ not in container_ids()
        assert list(Path("/run/runc").glob(id_)) == []


async def test_its_health_is_told_without_a_restart(
    runtime: Runtime, service: PrivatePodman
) -> None:
    assert runtime.health is not None
    with anyio.fail_after(30):
        async with runtime.health.fingerprints() as prints:
            assert (await anext(prints)).healthy
            service.stop()
            # How it was a moment ago may be told once more.
            while (down := await anext(prints)).healthy:
                pass
            assert (down.healthy, "no Podman at" in down.reason) == (False, True)
            service.start()
            while not (await anext(prints)).healthy:
                pass


async def test_whoever_begins_to_listen_hears_how_it_is_now(
    runtime: Runtime, service: PrivatePodman
) -> None:
    assert runtime.health is not None
    with anyio.fail_after(30):
        async with runtime.health.fingerprints() as prints:
            assert (await anext(prints)).healthy
        service.stop()  # and nobody here has had the time to hear of it
        async with runtime.health.fingerprints() as prints:
            assert not (await anext(prints)).healthy
        service.start()
        await runtime.driver.survey()


async def test_a_worker_begins_while_its_engine_is_down(
    open_driver: Callable[..., object], service: PrivatePodman, shell: Shell
) -> None:
    async with open_driver() as runtime:
        handle = await runtime.driver.create(shell())
    service.stop()
    async with open_driver() as runtime:
        with pytest.raises(EngineUnavailable):
            await runtime.driver.survey()
        service.start()
        assert [each.handle for each in await runtime.driver.survey()] == [handle]
        await runtime.driver.remove(handle)


async def test_an_engine_that_cannot_be_asked_is_taken_for_one_that_keeps_every_limit(
    open_driver: Callable[..., object], service: PrivatePodman
) -> None:
    """Otherwise the worker would leave out what nobody has declared."""
    async with open_driver() as runtime:
        facts = runtime.facts
        assert facts.limits == {Limit.CPU, Limit.MEMORY, Limit.PIDS}
    service.stop()
    async with open_driver() as runtime:
        assert runtime.facts == replace(facts, limits=frozenset(Limit), pause_with_memory=False)
        assert (runtime.pause, runtime.usage) == (None, None)
        service.start()
        with anyio.fail_after(30):
            async with runtime.health.fingerprints() as prints:
                while not (await anext(prints)).healthy:
                    pass
        assert runtime.facts == facts
        assert None not in (runtime.pause, runtime.usage)


async def test_what_is_to_be_pulled_ahead_is_pulled_once_the_engine_is_up(
    open_driver: Callable[..., object],
    service: PrivatePodman,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.stop()
    async with open_driver(prepull=["127.0.0.1:9/none"]):
        await anyio.wait_all_tasks_blocked()
        service.start()
        with anyio.fail_after(30):
            while "podman_prepull_failed" not in caplog.messages:
                await anyio.sleep(0.02)
    (record,) = (each for each in caplog.records if each.message == "podman_prepull_failed")
    assert "image '127.0.0.1:9/none' cannot be pulled" in vars(record)["why"]


async def test_an_image_that_arrives_is_told(
    runtime: Runtime, podman: Podman, service: PrivatePodman, tmp_path: Path
) -> None:
    assert runtime.health is not None
    name = "localhost/longshore/arrived:latest"
    with anyio.fail_after(20):
        async with runtime.health.fingerprints() as prints:
            assert name not in (await anext(prints)).images
            podman.run("tag", "localhost/longshore/empty:latest", name)
            while name not in (await anext(prints)).images:
                pass
    podman.run("untag", name, name)
