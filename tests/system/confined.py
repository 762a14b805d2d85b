"""Processes under limits, as an operator's service manager would set them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000
"""In microseconds."""
_EMPTY_SECONDS = 10
_CONTROLLERS = ("cpu", "memory")


def can_confine() -> bool:
    """Whether this process may make cgroups for CPU time and memory."""
    if os.geteuid() != 0:
        return False
    if _unified():
        enabled = (_ROOT / "cgroup.subtree_control").read_text().split()
        return all(each in enabled for each in _CONTROLLERS)
    return all((_ROOT / each).is_dir() for each in _CONTROLLERS)


@contextmanager
def confined(*pids: int, cores: float, memory_bytes: int) -> Iterator[None]:
    """Processes, and those that they start from now on, in a cgroup of their own. Whatever is
    still in it at the end has no limit any more."""
    name = f"longshore-confined-{uuid4().hex[:8]}"
    quota = int(cores * _PERIOD)
    if _unified():
        limits = {"": {"cpu.max": f"{quota} {_PERIOD}", "memory.max": str(memory_bytes)}}
    else:
        limits = {
            "cpu": {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)},
            "memory": {"memory.limit_in_bytes": str(memory_bytes)},
        }
    groups = [_ROOT / controller / name for controller in limits]
    try:
        for group, files in zip(groups, limits.values(), strict=True):
            group.mkdir()
            for file, text in files.items():
                (group / file).write_text(text)
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in groups:
            _dissolve(group)


def _dissolve(group: Path) -> None:
    deadline = time.monotonic() + _EMPTY_SECONDS
    while group.is_dir():
        for pid in (group / "cgroup.procs").read_text().split():
            try:
                (group.parent / "cgroup.procs").write_text(pid)
            except ProcessLookupError:
                continue  # ended meanwhile
        try:
            group.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{group} does not become empty"


def _unified() -> bool:
    return (_ROOT / "cgroup.controllers").exists()
