"""Processes of this host, told apart from later bearers of their pid.

A pid alone names nobody for long. Here a process is its pid and its start time, which no two
processes of one boot share, and a signal goes through a descriptor that was checked against both.
A zombie counts as ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

COOKIE: Final = "LONGSHORE_CONTAINER"
"""The variable that marks every process of a container: `owner:directory`."""

_ENDED: Final = (b"Z", b"X")
_EXEC_LOOKS: Final = 100
_EXEC_SECONDS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot. `start` is field 22 of its /proc/<pid>/stat."""

    pid: int
    start: int


def boot_id() -> str:
    """Which boot of the host this is: a process of another one lives no more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Process | None:
    """The process that has `pid` now, unless it has ended."""
    state, process, _ = _look(pid)
    return None if state in _ENDED else process


def child(pid: int) -> Process:
    """A child of ours, which may have ended: it is there until it is reaped."""
    _, process, _ = _look(pid)
    if process is None:
        raise ProcessLookupError(errno.ESRCH, f"process {pid} was reaped by another")
    return process


def is_alive(process: Process) -> bool:
    """Whether it has not ended yet. Reaps it, if it has and that is ours to do."""
    state, found, _ = _look(process.pid)
    if found != process:
        return False
    if state in _ENDED:
        _reap(os.P_PID, process.pid)
        return False
    return True


def send(process: Process, number: signal.Signals) -> None:
    """Signal the process; one that has ended swallows it. Raises PermissionError."""
    if (descriptor := _open(process)) is None:
        return
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def bearing(cookie: str) -> frozenset[Process]:
    """Every process that was started with the cookie in its environment, and those below it."""
    needle = f"\0{COOKIE}={cookie}\0".encode()
    found = dict[int, Process]()
    others = dict[int, tuple[int, Process]]()
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        # One that ends meanwhile, or that we may not look into, is none of ours.
        with contextlib.suppress(OSError):
            state, process, parent = _look(pid)
            if process is None or state in _ENDED:
                continue
            environment = b"\0" + _environment(pid)
            if needle in environment and identify(pid) == process:
                found[pid] = process
            else:
                others[pid] = (parent, process)
    while below := {pid: each for pid, (parent, each) in others.items() if parent in found}:
        found |= below
        others = {pid: each for pid, each in others.items() if pid not in below}
    return frozenset(found.values())


class Endings:
    """Lets any number of tasks wait for processes to end.

    A process that is waited for costs one descriptor; no thread, and nothing is polled.
    """

    def __init__(self) -> None:
        self._watches: dict[Process, _Watch] = {}

    async def wait(self, process: Process) -> None:
        """Return when the process has ended."""
        watch = self._watches.get(process)
        if watch is None:
            if (descriptor := _open(process)) is None:
                return
            watch = self._watches[process] = _Watch(descriptor)
        watch.waiters += 1
        try:
            await watch.wait()
        finally:
            watch.waiters -= 1
            if watch.waiters == 0:
                del self._watches[process]
                os.close(watch.descriptor)


@dataclass(slots=True)
class _Watch:
    descriptor: int
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    waiters: int = 0
    ended: bool = False

    async def wait(self) -> None:
        # Held while waiting, on purpose: who holds it watches for all, and when that one is
        # cancelled the next takes over.
        async with self.turn:
            if not self.ended:
                await anyio.wait_readable(self.descriptor)
                self.ended = True
                _reap(os.P_PIDFD, self.descriptor)


def _open(process: Process) -> int | None:
    """A descriptor of the process, for the caller to close; `None` when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # Asked after opening: what has the pid now had it then, so it is what the descriptor holds.
    if is_alive(process):
        return descriptor
    os.close(descriptor)
    return None


def _look(pid: int) -> tuple[bytes, Process | None, int]:
    """Its state, itself, and its parent's pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b"X", None, 0
    # The command's name comes before, and may hold spaces and brackets.
    fields = stat.rpartition(b")")[2].split()
    return fields[0], Process(pid, int(fields[19])), int(fields[1])


def _environment(pid: int) -> bytes:
    """What the process was started with. Raises OSError when it has ended, or may not be read.

    There is nothing to be read of one that is becoming another program, for much less than a
    millisecond as a rule: it is asked again.
    """
    for _ in range(_EXEC_LOOKS):
        found = Path(f"/proc/{pid}/environ").read_bytes()
        if found or _started_with_nothing(pid):
            return found
        time.sleep(_EXEC_SECONDS)
    return b""


def _started_with_nothing(pid: int) -> bool:
    """Whether its environment is known and empty; that of one that has ended, and of a thread of
    the kernel, is.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    # Fields 23, 50 and 51 of proc_pid_stat(5): vsize, env_start, env_end. The first is field 3.
    memory, start, end = fields[20], fields[47], fields[48]
    return memory == b"0" or (start == end and end != b"0")


def _reap(kind: int, name: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(kind, name, os.WEXITED | os.WNOHANG)
