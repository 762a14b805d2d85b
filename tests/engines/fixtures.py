"""Engines as fixtures: `docker_engine`, `podman_engine`. Those who ask for one share it.

Their tests run in one process, one after the other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.engines.dockerd import Docker, open_docker
from tests.engines.podman import Podman, open_podman

Require = Callable[[object, str], None]
GROUP = pytest.mark.xdist_group("engines")
TIMEOUT = pytest.mark.timeout(300)
"""An engine reads and writes much to start and to stop, and disks may be slow."""


@pytest.fixture(scope="session")
def docker_engine(require: Require) -> Iterator[Docker]:
    """A Docker engine; in CI a private one. Skips, or fails in CI, where there can be none."""
    in_ci = bool(os.environ.get("LONGSHORE_CI"))
    able = os.geteuid() == 0 and shutil.which("dockerd") and shutil.which("docker")
    answers = Docker(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")).answers()
    require(able or (answers and not in_ci), "a Docker engine: sudo tests/engines/install.sh")
    require(shutil.which("busybox"), "busybox-static, of which images are made")
    with open_docker(private=in_ci) as docker:
        yield docker


@pytest.fixture(scope="session")
def podman_engine(require: Require) -> Iterator[Podman]:
    """A Podman service; in CI a private one. Skips, or fails in CI, where there can be none."""
    in_ci = bool(os.environ.get("LONGSHORE_CI"))
    able = os.geteuid() == 0 and shutil.which("podman") and shutil.which("runc")
    answers = Podman(os.environ.get("CONTAINER_HOST", "unix:///run/podman/podman.sock")).answers()
    require(able or (answers and not in_ci), "a Podman service: sudo tests/engines/install.sh")
    require(shutil.which("busybox"), "busybox-static, of which images are made")
    with open_podman(private=in_ci) as podman:
        yield podman


def pytest_itemcollected(item: pytest.Item) -> None:
    """One engine of each kind is enough, and one test of them keeps a machine busy: with `--dist
    loadgroup`, they run in one process.

    Here, and not in `pytest_collection_modifyitems`, where pytest-xdist has read the marks before.
    """
    if engines_of(item):
        item.add_marker(GROUP)
        told = item.get_closest_marker("timeout") or item.config.getoption("timeout", None)
        if not told:
            item.add_marker(TIMEOUT)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Run nothing where marks do not group: two engines on one host undo each other's rules.

    pytest-xdist tells its scheduler of groups by node ids, which some of its pairs with pytest
    drop without a word.
    """
    if not getattr(session.config.option, "loadgroup", False):
        return
    for item in session.items:
        if engines_of(item) and "@" not in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} has lost its group: see constraints/dev.in")


def engines_of(item: pytest.Item) -> list[str]:
    """The engines that a test asks for, itself or by its fixtures."""
    names = getattr(item, "fixturenames", ())
    return [engine for engine in ("docker", "podman") if f"{engine}_engine" in names]
