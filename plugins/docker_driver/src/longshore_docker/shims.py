"""Containers that the runtime has made and the engine knows nothing of, since it was killed before
it could note that: held before their first instruction, each with a shim beside it. The engine,
back again, neither starts such a one nor takes it away. Blocking; for an engine on this host."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL, pidfd_send_signal
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_SHIM: Final = "containerd-shim"
_GONE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.02


def end_half_begun(id_: str) -> bool:
    """End what there is of a container that does not run, by the engine's own id; whether there was
    any. Returns when it is gone, or after a while: what this user must not end stays."""
    groups = [group for group in _groups(id_) if _members(group)]
    if not groups:
        return False
    for pid in _shims(id_):
        # containerd, which hears of it, has the runtime delete what that has made.
        _kill(pid, partial(_is_shim, pid, id_))
    for pid in {pid for group in groups for pid in _members(group)}:
        _kill(pid, partial(_is_member, pid, id_))
    deadline = time.monotonic() + _GONE_SECONDS
    while not all(map(_is_gone, groups)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    return True


def _is_gone(group: Path) -> bool:
    """Also by this: where the shim had gone before, nobody else removes it."""
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


def _groups(id_: str) -> Iterator[Path]:
    """The control groups of a container: of version 2, or of each controller of version 1; named by
    the engine itself, or by systemd."""
    with suppress(OSError):
        for root in (_CGROUPS, *_CGROUPS.iterdir()):
            for name in (f"docker/{id_}", f"system.slice/docker-{id_}.scope"):
                if (root / name).is_dir():
                    yield root / name


def _members(group: Path) -> list[int]:
    return [int(pid) for pid in _read(str(group / "cgroup.procs")).split()]


def _is_member(pid: int, id_: str) -> bool:
    return id_ in _read(f"/proc/{pid}/cgroup")


def _shims(id_: str) -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return [pid for pid in pids if _is_shim(pid, id_)]


def _is_shim(pid: int, id_: str) -> bool:
    program, *words = _read(f"/proc/{pid}/cmdline").split("\0")
    return os.path.basename(program).startswith(_SHIM) and ("-id", id_) in pairwise(words)


def _kill(pid: int, is_meant: Callable[[], bool]) -> None:
    """Unless the number is another process's by now."""
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if is_meant():
                pidfd_send_signal(pidfd, SIGKILL)
        finally:
            os.close(pidfd)


def _read(path: str) -> str:
    """Empty when it has gone."""
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
