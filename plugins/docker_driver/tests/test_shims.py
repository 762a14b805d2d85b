"""What is left of a container that the engine knows nothing of."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from longshore_docker.shims import end, is_half_begun, is_left

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
        assert is_left(group.name)
        assert end(group.name)
    assert process.returncode == -9
    assert not is_left(group.name)


def test_a_group_that_nobody_is_in_goes_with_it(group: Path) -> None:
    """A runtime that died at the beginning has left that, and perhaps a shim."""
    assert is_half_begun(group.name)
    assert end(group.name)
    assert not group.exists()
    assert not is_half_begun(group.name)


@pytest.mark.parametrize(("words", "held"), [(["runc", "init"], True), (["own", "init.py"], False)])
def test_what_has_begun_is_told_from_what_is_held_before_it(
    group: Path, tmp_path: Path, words: list[str], held: bool
) -> None:
    """By how it was called. What has begun is in the middle of its life."""
    (tmp_path / words[1]).write_text("import time; time.sleep(1000)")
    with subprocess.Popen(words, executable=sys.executable, cwd=tmp_path) as process:
        (group / "cgroup.procs").write_text(str(process.pid))
        assert is_half_begun(group.name) is held
        process.kill()
