"""What the tests of this driver share: an engine, and the driver as the kernel opens it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from longshore_core import ContainerId, ContainerSpec
from longshore_core.abc import Driver, Host, Runtime
from longshore_core.testing.bench import bare_host
from longshore_podman import longshore_driver

from tests.engines import images
from tests.engines.between import Behaviour, between
from tests.engines.podman import Podman, remove_network
from tests.loops import ASYNCIO, Backend

Opener = Callable[..., AbstractAsyncContextManager[Runtime]]
BRIDGE = "lsp-tests"
SUBNET = "10.249.0.0/20"


@pytest.fixture(scope="session")
def podman(podman_engine: Podman) -> Podman:
    """The engine, with images."""
    for image in images.IMAGES:
        podman_engine.load(image)
    return podman_engine


@pytest.fixture(scope="session")
def bridge(podman: Podman) -> Iterator[str]:
    """A network of the tests' own, which is gone afterwards."""
    yield BRIDGE
    remove_network(BRIDGE)


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
    return bare_host("podman", owner, state_dir)


@pytest.fixture
def open_driver(
    podman: Podman, bridge: str, host: Host, caplog: pytest.LogCaptureFixture
) -> Opener:
    """Open the driver through its plug: again for a worker that restarts."""
    caplog.set_level(logging.WARNING)

    def open_(lent: Host = host, **config: object) -> AbstractAsyncContextManager[Runtime]:
        plug = longshore_driver()
        given = {"address": podman.address, "ready_networks": 0, **config}
        network = {} if "network" in config else {"bridge": bridge, "subnet": SUBNET}
        return plug.open(plug.config.model_validate({**network, **given}), lent)

    return open_


@pytest.fixture
def open_between(open_driver: Opener, podman: Podman, tmp_path: Path) -> Opener:
    """Open the driver on the real engine, with somebody who stands between them."""

    @asynccontextmanager
    async def open_(behaviour: Behaviour, **config: object) -> AsyncGenerator[Runtime]:
        path = podman.address.removeprefix("unix://")
        async with (
            between(tmp_path / "between", behaviour, path) as address,
            open_driver(address=address, **config) as runtime,
        ):
            yield runtime

    return open_


@pytest.fixture
async def runtime(open_driver: Opener, podman: Podman, owner: str) -> AsyncGenerator[Runtime]:
    before = namespaces()
    async with open_driver() as opened:
        yield opened
        for found in await opened.driver.survey():
            await opened.driver.remove(found.handle)
    assert left_of(podman, owner) == []
    assert namespaces() <= before


@pytest.fixture
def driver(runtime: Runtime) -> Driver:
    return runtime.driver


def left_of(podman: Podman, owner: str) -> list[str]:
    """Containers of an owner."""
    label = f"label=longshore.owner={owner}"
    return podman.run("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()


def namespaces() -> set[str]:
    """Those of the tests' network."""
    there = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    return {name for name in there if name.startswith(BRIDGE)}


@pytest.fixture(name="left_of")
def _left_of(podman: Podman) -> Callable[[str], list[str]]:
    return lambda owner: left_of(podman, owner)


@pytest.fixture
def shell(owner: str) -> Callable[..., ContainerSpec]:
    """A spec that runs a script in busybox."""
    mark = owner.partition("/")[0]

    def make(script: str = "exec sleep 1000", name: str = "c", **rest: object) -> ContainerSpec:
        given = {"image": images.BUSYBOX.reference, "argv": ("/bin/sh", "-c", script), **rest}
        return ContainerSpec(id=ContainerId(f"{mark}-{name}"), **given)

    return make
