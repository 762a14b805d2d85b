"""Containers that the runtime has made, or half of it, and the engine knows nothing of: it was
killed before it could note that. They have a shim beside them, and are held before their first
instruction. The engine, back again, neither starts such a container nor takes it away.

Blocking; for an engine on this host."""

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
_HELD: Final = "init"
"""The argument of `runc` with which it waits, inside, to become PID 1."""
_GONE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.02


def has_groups(id_: str) -> bool:
    """Whether there are control groups of a container, by the engine's own id. Cheap."""
    return any(True for _ in _groups(id_))


def is_left(id_: str) -> bool:
    """Whether there is anything of a container: a shim, before there are groups."""
    return has_groups(id_) or bool(_shims(id_))


def is_half_begun(id_: str) -> bool:
    """Whether there is anything of a container that the engine says does not run, and none of its
    own programs."""
    return is_left(id_) and all(map(_is_held, _members(id_)))


def end(id_: str) -> bool:
    """End all that there is of it. Returns when it is gone, or False after a while: what this user
    must not end stays."""
    shims = _shims(id_)
    for shim in shims:
        # First a runtime that is still about it: it would go on by itself.
        for pid in filter(partial(_is_child, shim), _processes()):
            _kill(pid, partial(_is_child, shim, pid))
        # containerd, which hears of it, has the runtime delete what that has made.
        _kill(shim, partial(_is_shim, shim, id_))
    for pid in _members(id_):
        _kill(pid, partial(_is_member, pid, id_))
    deadline = time.monotonic() + _GONE_SECONDS
    while has_groups(id_):
        if time.monotonic() > deadline or not shims:
            # Where the shim had gone before, nobody else does.
            _remove_groups(id_)
        if time.monotonic() > deadline:
            return not has_groups(id_)
        time.sleep(_PAUSE_SECONDS)
    return True


def _groups(id_: str) -> Iterator[Path]:
    """The control groups of a container: of version 2, or of each controller of version 1; named by
    the engine itself, or by systemd."""
    with suppress(OSError):
        for root in (_CGROUPS, *_CGROUPS.iterdir()):
            for name in (f"docker/{id_}", f"system.slice/docker-{id_}.scope"):
                if (root / name).is_dir():
                    yield root / name


def _remove_groups(id_: str) -> None:
    for group in _groups(id_):
        with suppress(OSError):
            group.rmdir()


def _members(id_: str) -> set[int]:
    texts = (_read(f"{group}/cgroup.procs") for group in _groups(id_))
    return {int(pid) for text in texts for pid in text.split()}


def _is_member(pid: int, id_: str) -> bool:
    return id_ in _read(f"/proc/{pid}/cgroup")


def _is_held(pid: int) -> bool:
    return _words(pid)[1:2] == [_HELD]


def _is_child(parent: int, pid: int) -> bool:
    # The name, in parentheses, may have any character in it.
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1:2] == [str(parent)]


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _shims(id_: str) -> list[int]:
    return [pid for pid in _processes() if _is_shim(pid, id_)]


def _is_shim(pid: int, id_: str) -> bool:
    program, *words = _words(pid)
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


def _words(pid: int) -> list[str]:
    return _read(f"/proc/{pid}/cmdline").split("\0")


def _read(path: str) -> str:
    """Empty when it has gone."""
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
