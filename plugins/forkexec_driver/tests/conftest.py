"""What the tests of this driver share: a driver that is open, and eyes on what it leaves behind."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from glob import glob
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from longshore_core import ContainerId, ContainerSpec, Gap, Host, Transition
from longshore_core.abc import Driver, Runtime
from longshore_forkexec import longshore_driver
from longshore_forkexec.processes import identify


@asynccontextmanager
async def _no_transitions() -> AsyncGenerator[AsyncIterator[Transition | Gap], None]:
    async def none() -> AsyncIterator[Transition | Gap]:
        return
        yield

    yield none()


OWNER = "worker-1/driver"
Opener = Callable[..., AbstractAsyncContextManager[Runtime]]


@pytest.fixture(params=["auto", "off"])
def cgroup(request: pytest.FixtureRequest) -> str:
    """Every law holds with cgroups and without."""
    return request.param


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.fixture
def open_driver(state_dir: Path, cgroup: str) -> Opener:
    """Open the driver through its plug, as the kernel does: again for a worker that restarts."""

    def open_(owner: str = OWNER, **config: object) -> AbstractAsyncContextManager[Runtime]:
        plug = longshore_driver()
        host = Host(
            name="fork_exec",
            owner=owner,
            state_dir=state_dir,
            logger=logging.getLogger("test"),
            transitions=_no_transitions,
        )
        return plug.open(plug.config.model_validate({"cgroup": cgroup, **config}), host)

    return open_


@pytest.fixture
async def runtime(open_driver: Opener) -> AsyncGenerator[Runtime, None]:
    async with open_driver() as opened:
        yield opened
        for found in await opened.driver.survey():
            await opened.driver.remove(found.handle)


@pytest.fixture
def driver(runtime: Runtime) -> Driver:
    return runtime.driver


def shell(id_: str, script: str, **rest: object) -> ContainerSpec:
    return ContainerSpec(id=ContainerId(id_), argv=("/bin/sh", "-c", script), **rest)


@pytest.fixture(name="shell")
def _shell() -> Callable[..., ContainerSpec]:
    """A spec that runs a script."""
    return shell


class Fifo:
    """What a container says to the test: no test sleeps to wait for it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path

    async def hear(self) -> str:
        """All that is said until everyone who says something has closed it."""
        with anyio.fail_after(10):
            return (
                await anyio.to_thread.run_sync(self.path.read_text, abandon_on_cancel=True)
            ).strip()


@pytest.fixture
def fifo(tmp_path: Path) -> Fifo:
    return Fifo(tmp_path / "fifo")


class Traces:
    """Everything of this driver that can be seen from outside."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def processes(self) -> set[int]:
        """Those that carry a cookie of a container of this test."""
        needle = f":{self._state_dir}/".encode()
        found = set[int]()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if any(
                variable.startswith(b"LONGSHORE_CONTAINER=") and needle in variable
                for variable in environment.split(b"\0")
            ):
                found.add(int(name))
        return found

    def zombies(self) -> set[int]:
        """Children of this process that nobody has reaped."""
        found = set[int]()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z" and int(fields[1]) == os.getpid():
                found.add(int(name))
        return found

    def files(self) -> set[str]:
        return {str(path.relative_to(self._state_dir)) for path in self._state_dir.rglob("*")}

    def groups(self, container: str) -> set[str]:
        """Of a container of the usual owner."""
        mark = hashlib.sha256(f"{OWNER}\0{self._state_dir}".encode()).hexdigest()[:16]
        pattern = f"/sys/fs/cgroup/**/longshore-{mark}/container-{container}"
        return set(glob(pattern, recursive=True))

    def descriptors(self) -> set[str]:
        return {f"{name}:{_link(name)}" for name in os.listdir("/proc/self/fd")}

    async def vanish(self) -> None:
        """Wait until nobody is left who has not been told that his container is gone."""
        with anyio.fail_after(10):
            while self.processes():
                await anyio.sleep(0.01)

    def assert_none(self, *containers: str) -> None:
        assert self.processes() == set()
        assert self.zombies() == set()
        assert self.files() == set()
        for container in containers:
            assert self.groups(container) == set()


def _link(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return ""


@pytest.fixture
def traces(state_dir: Path) -> Traces:
    return Traces(state_dir)


@pytest.fixture
def is_gone() -> Callable[[str | int], bool]:
    return lambda pid: identify(int(pid)) is None
