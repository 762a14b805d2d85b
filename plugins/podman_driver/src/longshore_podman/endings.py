"""How containers of this host end, seen with our own eyes.

What the engine says of an end leaves two questions open. A code above 128 may be a program's own
or stand for a signal; and it does not always notice that the kernel killed for want of memory. The
kernel knows both: the cgroup counts, at the moment when PID 1 dies, and a pidfd that was opened
before keeps the status that its parent has got (since Linux 6.15; before, the engine's code must
do). So there is one descriptor a container, and one task for all of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Final

import anyio
from longshore_core import Exit

from longshore_podman.answers import Container
from longshore_podman.monitors import is_monitored

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PIDFD_GET_INFO: Final = 0xC040FF0B
_INFO: Final = struct.Struct("<QQ11Ii")
"""`struct pidfd_info` of linux/pidfd.h: what is asked for, a cgroup, eleven ids, the status."""
_INFO_EXIT: Final = 1 << 3
_SIGNALED: Final = 128


@dataclass(slots=True)
class _Watched:
    pidfd: int
    counter: Path | None
    """The file with the cgroup's count of kills."""
    oom: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """What was seen of an end."""

    status: int | None
    """As `wait` has it."""
    oom: bool


class Witness:
    """Watches PID 1 of containers, by the engine's ids. Does not block."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[str, _Watched] = {}
        self._ids: dict[int, str] = {}

    def watch(self, id_: str, pid: int) -> None:
        """Watch a container from now on, if its PID 1 can be seen from here. Idempotent."""
        if id_ in self._watched or not pid:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return  # it has ended already, or is on another host
        if not is_monitored(pid, id_):
            os.close(pidfd)
            return
        self._watched[id_] = _Watched(pidfd, _kill_counter(pid))
        self._ids[pidfd] = id_
        self._epoll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)

    def ending(self, id_: str) -> Ending | None:
        """How a container has ended, once the engine says that it has; `None`: unseen."""
        self._look()
        watched = self._watched.get(id_)
        return Ending(_status(watched.pidfd), watched.oom) if watched else None

    def forget(self, id_: str) -> None:
        if watched := self._watched.pop(id_, None):
            del self._ids[watched.pidfd]
            os.close(watched.pidfd)

    async def run(self) -> None:
        """Look whenever somebody dies. Never ends by itself."""
        while True:
            await anyio.wait_readable(self._epoll.fileno())
            self._look()

    def close(self) -> None:
        for id_ in list(self._watched):
            self.forget(id_)
        self._epoll.close()

    def _look(self) -> None:
        """The counters of those who are dying: the engine takes the cgroup away soon after."""
        for pidfd, _ in self._epoll.poll(0):
            watched = self._watched[self._ids[pidfd]]
            if watched.counter is not None:
                watched.oom = _kills(watched.counter) > 0


def exit_of(container: Container, ending: Ending | None) -> Exit:
    """How a container has ended: what was seen of it, and what the engine has for the rest.

    `oom` is that the kernel has killed in there, at any time, and that SIGKILL has ended it: the
    same, unless somebody else has sent that.
    """
    if ending is not None and ending.status is not None:
        code = os.waitstatus_to_exitcode(ending.status)
        known = Exit(code=code) if code >= 0 else Exit(signal=-code)
    else:
        known = _exit_of_code(container.exit_code)
    oom = container.oom or bool(ending and ending.oom)
    return replace(known, oom=oom and known.signal == SIGKILL)


def _exit_of_code(code: int | None) -> Exit:
    if code is not None and code > _SIGNALED:
        with contextlib.suppress(ValueError):
            return Exit(signal=Signals(code - _SIGNALED))
    return Exit(code=code)


def _kill_counter(pid: int) -> Path | None:
    """Where the cgroup of a process counts; version 2 has one hierarchy, version 1 several."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        groups = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
        if "memory" in groups:
            return Path(f"{_CGROUPS}/memory{groups['memory']}/memory.oom_control")
        if "" in groups:
            return Path(f"{_CGROUPS}{groups['']}/memory.events")
    return None


def _kills(counter: Path) -> int:
    with contextlib.suppress(OSError):
        fields = dict(line.split() for line in counter.read_text().splitlines())
        return int(fields.get("oom_kill", 0))
    return 0


def _status(pidfd: int) -> int | None:
    """What the parent has got, when it has; `None` on a kernel that does not keep it."""
    buffer = bytearray(_INFO.size)
    struct.pack_into("<Q", buffer, 0, _INFO_EXIT)
    with contextlib.suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
        said, *_, status = _INFO.unpack(buffer)
        return status if said & _INFO_EXIT else None
    return None
