"""What the tests of this driver share: an engine, and the driver as the kernel opens it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from longshore_core import ContainerId, ContainerSpec
from longshore_core.abc import Driver, Host, Runtime
from longshore_core.testing.bench import bare_host
from longshore_docker import longshore_driver

from tests.engines import images
from tests.engines.between import Behaviour, Exchange, between
from tests.engines.dockerd import Docker
from tests.loops import ASYNCIO, Backend

Opener = Callable[..., AbstractAsyncContextManager[Runtime]]


@pytest.fixture(scope="session")
def docker(docker_engine: Docker) -> Docker:
    """The engine, with images."""
    for image in images.IMAGES:
        docker_engine.load(image)
    return docker_engine


@pytest.fixture
def anyio_backend() -> Backend:
    """One is enough where the engine is real: the pure tests run on both."""
    return ASYNCIO


@pytest.fixture
def owner() -> str:
    """Another one for each test, so that nobody's leftovers are anybody's."""
    return f"w-{uuid4().hex[:8]}/driver"


@pytest.fixture
def host(tmp_path: Path, owner: str) -> Host:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    return bare_host("docker", owner, state_dir)


@pytest.fixture
def open_driver(docker: Docker, host: Host, caplog: pytest.LogCaptureFixture) -> Opener:
    """Open the driver through its plug: again for a worker that restarts."""
    caplog.set_level(logging.WARNING)

    def open_(lent: Host = host, **config: object) -> AbstractAsyncContextManager[Runtime]:
        plug = longshore_driver()
        given = {"address": docker.address, "ready_networks": 0, **config}
        return plug.open(plug.config.model_validate(given), lent)

    return open_


@pytest.fixture
def open_between(open_driver: Opener, docker: Docker, tmp_path: Path) -> Opener:
    """Open the driver on the real engine, with somebody who stands between them."""

    @asynccontextmanager
    async def open_(behaviour: Behaviour, **config: object) -> AsyncGenerator[Runtime]:
        path = docker.address.removeprefix("unix://")
        async with (
            between(tmp_path / "between", behaviour, path) as address,
            open_driver(address=address, **config) as runtime,
        ):
            yield runtime

    return open_


@pytest.fixture
def open_scripted(host: Host, tmp_path: Path) -> Opener:
    """Open the driver on an engine that has nothing, and answers some requests as it is told."""

    @asynccontextmanager
    async def open_(script: Mapping[str, Behaviour], **config: object) -> AsyncGenerator[Runtime]:
        async def engine(exchange: Exchange) -> None:
            if exchange.request in script:
                await script[exchange.request](exchange)
            elif exchange.request == "GET /events":
                await exchange.begin()
                await anyio.sleep_forever()
            else:
                known = exchange.request in EMPTY
                body = EMPTY[exchange.request] if known else {"message": "no such thing"}
                await exchange.answer(body, 200 if known else 404)

        async with between(tmp_path / "scripted", engine) as address:
            plug = longshore_driver()
            given = {"address": address, "ready_networks": 0, **config}
            async with plug.open(plug.config.model_validate(given), host) as runtime:
                yield runtime

    return open_


EMPTY = {
    "GET /version": {"ApiVersion": "1.44", "Version": "1", "Os": "linux", "Arch": "amd64"},
    "GET /info": {"Architecture": "x86_64", "NCPU": 1, "MemTotal": 1 << 30},
    "GET /containers/json": [],
    "GET /images/json": [],
}
"""What an engine says that has nothing. Of anything else it knows nothing."""


@pytest.fixture
async def runtime(open_driver: Opener, docker: Docker, owner: str) -> AsyncGenerator[Runtime]:
    async with open_driver() as opened:
        yield opened
        for found in await opened.driver.survey():
            await opened.driver.remove(found.handle)
    assert left_of(docker, owner) == ([], [])


@pytest.fixture
def driver(runtime: Runtime) -> Driver:
    return runtime.driver


def left_of(docker: Docker, owner: str) -> tuple[list[str], list[str]]:
    """Containers and networks of an owner."""
    label = f"label=longshore.owner={owner}"
    listed = docker.run("ps", "--all", "--filter", label, "--format", "{{.Names}}")
    networks = docker.run("network", "ls", "--filter", label, "--format", "{{.Name}}")
    return listed.split(), networks.split()


@pytest.fixture(name="left_of")
def _left_of(docker: Docker) -> Callable[[str], tuple[list[str], list[str]]]:
    return lambda owner: left_of(docker, owner)


@pytest.fixture
def shell(owner: str) -> Callable[..., ContainerSpec]:
    """A spec that runs a script in busybox."""
    mark = owner.partition("/")[0]

    def make(script: str = "exec sleep 1000", name: str = "c", **rest: object) -> ContainerSpec:
        given = {"image": images.BUSYBOX.reference, "argv": ("/bin/sh", "-c", script), **rest}
        return ContainerSpec(id=ContainerId(f"{mark}-{name}"), **given)

    return make
