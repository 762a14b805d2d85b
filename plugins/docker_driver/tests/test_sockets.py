"""Directories for sockets: none is left over of what was never made, and none in use goes."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from longshore_core import BackendError, ContainerId, ContainerSpec, EngineUnavailable, Handle
from longshore_core.abc import Host
from longshore_core.testing.bench import bare_host
from longshore_docker.sockets import Sockets

from tests.engines import images
from tests.engines.between import Exchange
from tests.engines.dockerd import Docker

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]


def directories(host: Host) -> int:
    return len(list(Path(host.state_dir, "sockets").iterdir()))


ID = ContainerId("c")


@pytest.fixture
def sockets(host: Host) -> Sockets:
    return Sockets(Path(host.state_dir), host.owner, host.logger)


def nest(directory: str) -> None:
    """More levels than Python recurses to."""
    subprocess.run(["mkdir", "-p", "d/" * 1900], cwd=directory, check=True)


@contextmanager
def busy(directory: str) -> Iterator[None]:
    """Somebody has mounted something in there, and it cannot be deleted."""
    place = Path(directory, "busy")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_what_is_nested_deeply_goes_with_its_container(sockets: Sockets, host: Host) -> None:
    sockets.make(ID)
    nest(sockets.path(ID))
    for _ in range(2):
        sockets.discard(ID)
    assert directories(host) == 0


def test_what_is_nested_deeply_is_swept(sockets: Sockets, host: Host) -> None:
    sockets.make(ID)
    nest(sockets.path(ID))
    sockets.disclaim(ID)
    sockets.sweep(sockets.unclaimed())
    assert directories(host) == 0


@pytest.mark.needs_root
def test_what_cannot_be_discarded_is_named_and_left_to_the_next(
    sockets: Sockets, host: Host
) -> None:
    sockets.make(ID)
    path = sockets.path(ID)
    with busy(path):
        with pytest.raises(BackendError) as caught:
            sockets.discard(ID)
        assert str(caught.value) == (
            f"cannot delete {path}, where container c had its sockets: Device or resource busy"
        )
        assert caught.value.retryable
        assert sockets.unclaimed() == {path}
    sockets.discard(ID)
    assert directories(host) == 0


@pytest.mark.needs_root
def test_what_cannot_be_swept_is_told_and_keeps_nothing_else(
    sockets: Sockets, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ids = [ContainerId(name) for name in ("a", "b", "c")]
    for id_ in ids:
        sockets.make(id_)
        sockets.disclaim(id_)
    stuck = sockets.path(ids[1])
    with busy(stuck):
        sockets.sweep(sockets.unclaimed())
        assert sockets.unclaimed() == {stuck}
    (record,) = caplog.records
    assert (record.message, record.path) == ("docker_sockets_left", stuck)
    sockets.sweep(sockets.unclaimed())
    assert directories(host) == 0


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
