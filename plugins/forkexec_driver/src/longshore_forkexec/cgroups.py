"""Control groups, of whichever version this host has; without any, the driver does with less.

Every container gets a group of its own, and all shims share one, beside the worker's:

    <parent of the worker's group>/longshore-<mark>/container-<id>
                                                   /shims

Beside, and not inside: whoever kills the worker's group must not kill its containers. Nor at the
top: what limits the worker's surroundings limits its containers too. Version 2 comes first, since
it kills a group at one stroke; a controller that it lacks is taken from version 1.

A worker that was killed and never comes back leaves its own group empty. Whoever opens one beside
it sweeps that away: the living hold a lock on theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from longshore_core import ContainerId, Limit, Limits

from longshore_forkexec.processes import Process, identify

UNIFIED: Final = ""
"""Version 2's hierarchy, among those of version 1, which go by the names of their controllers."""

_LIMITS: Final[Mapping[str, Limit]] = {
    "cpu": Limit.CPU,
    "memory": Limit.MEMORY,
    "pids": Limit.PIDS,
}
_REQUIRED: Final[Mapping[str, str]] = {
    "cpu": "cpu.cfs_quota_us",
    "memory": "memory.limit_in_bytes",
    "pids": "pids.max",
}
_PERIOD_US: Final = 100_000
_LEAST_QUOTA_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Base:
    """The driver's own group in one hierarchy, and the controllers that it can use there."""

    path: Path
    unified: bool
    controllers: frozenset[str]
    lock: int
    """A descriptor of the group, locked for as long as this process lives."""


class Cgroups:
    """One owner's groups. Blocking, though seldom for long. Raises OSError."""

    def __init__(self, bases: Sequence[Base]) -> None:
        self._bases = bases
        self.limits = frozenset(_LIMITS[name] for base in bases for name in base.controllers)
        """What can be enforced here."""

    def paths(self, container: ContainerId) -> tuple[Path, ...]:
        """Where a container's groups are, or would be."""
        return tuple(base.path / f"container-{container}" for base in self._bases)

    def make(self, container: ContainerId, limits: Limits) -> None:
        """Make a container's groups, with its limits in force."""
        for base, path in zip(self._bases, self.paths(container), strict=True):
            path.mkdir(parents=True, exist_ok=True)
            for name in base.controllers:
                for setting in settings(name, limits, unified=base.unified):
                    if setting.required or (path / setting.file).exists():
                        (path / setting.file).write_text(setting.value)

    def shelter(self, shim: int) -> None:
        """Take a shim, a child of ours, out of the worker's groups."""
        for base in self._bases:
            _enter(base.path / "shims", shim)

    def close(self) -> None:
        """Remove the groups of the owner, when no container is left in them."""
        bases, self._bases = self._bases, ()
        for base in bases:
            os.close(base.lock)
            _remove_empty(base.path)


def open_cgroups(mark: str) -> Cgroups:
    """Find out what this host allows, and make the owner's groups. `mark` tells owners apart."""
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    memberships = parse_memberships(Path("/proc/self/cgroup").read_text())
    bases, missing = list[Base](), set(_LIMITS)
    for name in (UNIFIED, *_LIMITS):
        if name in mounts and (name == UNIFIED or name in missing):
            path = parent(mounts[name], memberships.get(name, "/")) / f"longshore-{mark}"
            # Read-only, not ours, or full: then this hierarchy is not to be had.
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                lock = _claim(path)
                stack.callback(_remove_empty, path)
                stack.callback(os.close, lock)
                base = _prepare(path, name, missing, lock)
                _try(base)
                stack.pop_all()
                bases.append(base)
                missing -= base.controllers
                _sweep(path.parent)
    return Cgroups(bases)


# On groups by path: those of a container are on record, and may be from another driver's life.


def kill(paths: Iterable[Path]) -> None:
    """Kill all in the groups at one stroke, where version 2 offers it."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            (path / "cgroup.kill").write_text("1")


def members(paths: Iterable[Path]) -> frozenset[Process]:
    """Who is in the groups, and in those that the container has made inside."""
    found = set[Process]()
    for path in paths:
        for group in _nested(path):
            with contextlib.suppress(FileNotFoundError):
                pids = (group / "cgroup.procs").read_text().split()
                found |= {process for pid in pids if (process := identify(int(pid)))}
    return frozenset(found)


def remove(paths: Iterable[Path]) -> None:
    """Remove empty groups. Raises OSError while one is not empty. Idempotent."""
    for path in paths:
        for group in _nested(path):
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()


# What the kernel's files say, and want. Pure.


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a hierarchy is mounted, and which of its groups is at that place."""

    point: PurePosixPath
    root: PurePosixPath


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for a file of a group. Not all kernels account for swap, so some may be absent."""

    file: str
    value: str
    required: bool = True


def parse_mounts(mountinfo: str) -> dict[str, Mount]:
    """Hierarchies by name, from /proc/self/mountinfo."""
    found: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        places, kind = before.split(" "), after.split(" ")
        if len(places) < 5 or len(kind) < 3 or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        mount = Mount(PurePosixPath(_plain(places[4])), PurePosixPath(_plain(places[3])))
        names = [UNIFIED] if kind[0] == "cgroup2" else kind[2].split(",")
        found |= dict.fromkeys(names, mount)
    return found


def parse_memberships(cgroup: str) -> dict[str, str]:
    """The group that a process is in, by hierarchy, from /proc/<pid>/cgroup."""
    lines = [line.split(":", 2) for line in cgroup.splitlines() if line.count(":") >= 2]
    return {name: path for _, names, path in lines for name in names.split(",")}


def parent(mount: Mount, member: str) -> Path:
    """The directory of the group above `member`; the topmost that is visible has none above."""
    path = PurePosixPath(member)
    inside = path.relative_to(mount.root) if path.is_relative_to(mount.root) else PurePosixPath()
    return Path(mount.point / inside.parent)


def settings(controller: str, limits: Limits, *, unified: bool) -> list[Setting]:
    """What puts a controller's limit in force; nothing, when there is none to be."""
    match controller:
        case "cpu" if limits.cpu_millis is not None:
            quota = max(limits.cpu_millis * _PERIOD_US // 1000, _LEAST_QUOTA_US)
            if unified:
                return [Setting("cpu.max", f"{quota} {_PERIOD_US}")]
            period = Setting("cpu.cfs_period_us", str(_PERIOD_US))
            return [period, Setting("cpu.cfs_quota_us", str(quota))]
        case "memory" if limits.memory_bytes is not None:
            size = str(limits.memory_bytes)
            if unified:
                return [
                    Setting("memory.max", size),
                    Setting("memory.swap.max", "0", required=False),
                ]
            both = Setting("memory.memsw.limit_in_bytes", size, required=False)
            return [Setting("memory.limit_in_bytes", size), both]
        case "pids" if limits.pids is not None:
            return [Setting("pids.max", str(limits.pids))]
        case _:
            return []


def _plain(field: str) -> str:
    """The kernel writes blanks in octal there."""
    return field.encode("latin-1", "replace").decode("unicode_escape") if "\\" in field else field


# Reaching for the host.


def _claim(path: Path) -> int:
    """Make a group, and lock it: the descriptor, and with it the lock, goes with the process."""
    while True:
        path.mkdir(exist_ok=True)
        # Somebody who sweeps may be quicker, at each step: then it is made again.
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:
            lock = _opened(path)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(lock), path.stat()):
                stack.pop_all()
                return lock


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sweep(parent: Path) -> None:
    """Remove what workers have left that were killed with no container, and have not come back."""
    for path in parent.glob("longshore-*"):
        with contextlib.suppress(OSError):
            lock = _opened(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_empty(path)
            finally:
                os.close(lock)


def _remove_empty(path: Path) -> None:
    """Remove an owner's group, unless a container has one in it."""
    with contextlib.suppress(OSError):
        if not any(path.glob("container-*")):
            with contextlib.suppress(FileNotFoundError):
                (path / "shims").rmdir()
            path.rmdir()


def _prepare(path: Path, name: str, wanted: set[str], lock: int) -> Base:
    if name != UNIFIED:
        (path / _REQUIRED[name]).stat()
        return Base(path, unified=False, controllers=frozenset({name}), lock=lock)
    for controller in wanted:
        # A controller that version 1 has, or that the parent cannot pass on, is refused here.
        with contextlib.suppress(OSError):
            for group in (path.parent, path):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")
    passed_on = set((path / "cgroup.subtree_control").read_text().split())
    return Base(path, unified=True, controllers=frozenset(wanted & passed_on), lock=lock)


def _try(base: Base) -> None:
    """Move a process, as a start would: being allowed to make a group is not all that it takes."""
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        _enter(base.path / "shims", child.pid)


def _enter(group: Path, pid: int) -> None:
    group.mkdir(parents=True, exist_ok=True)
    # A process that has ended in the meantime needs no group.
    with contextlib.suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(pid))


def _nested(path: Path) -> Iterator[Path]:
    """A group and those inside it, the innermost first."""
    for root, _, _ in os.walk(path, topdown=False):
        yield Path(root)
