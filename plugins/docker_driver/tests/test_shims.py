"""What is left of a container that the engine knows nothing of."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from longshore_docker.shims import end_half_begun

GROUPS = ("pids/docker", "docker")


@pytest.fixture
def group(require: Callable[[object, str], None]) -> Iterator[Path]:
    """A control group like one of a container's."""
    require(os.geteuid() == 0, "root, for control groups")
    roots = (Path("/sys/fs/cgroup", name) for name in GROUPS)
    root = next(each for each in roots if (each.parent / "cgroup.procs").exists())
    path = root / secrets.token_hex(32)
    path.mkdir(parents=True)
    yield path
    if path.exists():
        path.rmdir()


def test_what_nobody_watches_any_more_is_ended_and_its_group_is_gone(group: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        (group / "cgroup.procs").write_text(str(process.pid))
        assert end_half_begun(group.name)
    assert process.returncode == -9
    assert not group.exists()
    assert not end_half_begun(group.name)


def test_where_nobody_is_nothing_is_done(group: Path) -> None:
    assert not end_half_begun(group.name)
    assert group.exists()
