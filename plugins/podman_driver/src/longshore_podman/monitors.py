"""The engine's monitors: a process beside each container, and beside each program that it was asked
to run in one. They name on their command line whom they monitor, which is how a pid is known to be
what the engine said that it is. Blocking, but for `wait_for_monitors`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL, pidfd_send_signal
from typing import Final

import anyio
import anyio.to_thread

_PROGRAM: Final = b"conmon"
_GONE_SECONDS: Final = 2.0


def is_monitored(pid: int, id_: str) -> bool:
    """Whether a process is a child of the monitor of the container, or program, `id_`."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return _is_monitor(int(fields[1]), id_)
    return False


def kill_monitored(pid: int, id_: str) -> None:
    """Kill a process, if it is what it is taken for."""
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if is_monitored(pid, id_):
                pidfd_send_signal(pidfd, SIGKILL)
        finally:
            os.close(pidfd)


def end_monitors(id_: str) -> None:
    """End the monitors of a program that has ended. They would wait for minutes, should anybody
    still ask how it did."""
    for pid in _monitors(id_):
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


async def wait_for_monitors(id_: str) -> None:
    """Return when those of a container are gone, as they will be when it has ended."""
    with anyio.move_on_after(_GONE_SECONDS):
        for pid in await anyio.to_thread.run_sync(_monitors, id_):
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    await anyio.wait_readable(pidfd)
                finally:
                    os.close(pidfd)


def kill_unknown(id_: str) -> set[str]:
    """Kill the monitors of a container, and those whom they watch, which the engine knows nothing
    of. The answer are the runtimes that have a record of it."""
    runtimes = set[str]()
    with ExitStack() as stack:
        watched = [_opened(stack, pid) for pid in _processes() if is_monitored(pid, id_)]
        for pid in _monitors(id_):
            monitor, words = _opened(stack, pid), _words(pid)
            # What others call themselves is nothing to go by: a program is run that this one names.
            if _owner(pid) != os.geteuid() or not _names(words, id_):
                continue
            runtimes |= {os.fsdecode(next_) for word, next_ in pairwise(words) if word == b"-r"}
            # First, and like this: else it would call the engine about the end of the other.
            _kill(monitor)
        for process in watched if runtimes else ():
            _kill(process)
    return runtimes


def _opened(stack: ExitStack, pid: int) -> int | None:
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        stack.callback(os.close, pidfd)
        return pidfd
    return None


def _kill(pidfd: int | None) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if pidfd is not None:
            pidfd_send_signal(pidfd, SIGKILL)


def _owner(pid: int) -> int | None:
    with suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid
    return None


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _monitors(id_: str) -> list[int]:
    return [pid for pid in _processes() if _is_monitor(pid, id_)]


def _is_monitor(pid: int, id_: str) -> bool:
    return _names(_words(pid), id_)


def _names(words: Sequence[bytes], id_: str) -> bool:
    """Whether that is how a monitor of `id_` was called. `-c` is the container, also of a program's
    monitor; `-u` is whom it monitors."""
    return words[0].endswith(_PROGRAM) and (b"-u", id_.encode()) in pairwise(words)


def _words(pid: int) -> Sequence[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return [b""]
