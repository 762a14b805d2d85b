"""The engine's monitors: a process beside each container, and beside each program that it was asked
to run in one. They name on their command line whom they monitor, which is how a pid is known to be
what the engine said that it is. Blocking, but for `wait_for_monitors`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL, SIGSTOP, Signals, pidfd_send_signal
from typing import Final

import anyio
import anyio.to_thread

_PROGRAM: Final = b"conmon"
_GONE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """One that was stopped, and what it knows."""

    pid: int
    watches: str
    runtime: tuple[str, ...]
    """The program that has a record of whom it watches, and its options."""
    place: str | None
    """Below which that record is, where the engine is not root's."""


def is_monitored(pid: int, id_: str) -> bool:
    """Whether a process is a child of the monitor of the container, or program, `id_`."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return _is_monitor(int(fields[1]), id_)
    return False


def kill_monitored(pid: int, id_: str) -> None:
    """Kill a process, if it is what it is taken for."""
    _signal(pid, SIGKILL, partial(is_monitored, pid, id_))


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


def stop_monitors(id_: str) -> list[Monitor]:
    """Stop the monitors of a container, and kill those whom they watch. They are still there then,
    for whoever has to begin again."""
    return [monitor for pid in _monitors(id_) if (monitor := _stopped(pid, id_))]


def kill_monitor(monitor: Monitor) -> None:
    """Kill one that was stopped: it never hears of the end of whom it watched."""
    _signal(monitor.pid, SIGKILL, partial(_is_monitor, monitor.pid, monitor.watches))


def _stopped(pid: int, id_: str) -> Monitor | None:
    """`None`: it has gone, or is not the engine's. Else it would call the engine, once it hears of
    the end of those whom it watches."""
    if not _signal(pid, SIGSTOP, lambda: _is_monitor(pid, id_) and _is_the_engines(pid)):
        return None
    for child in _processes():
        if is_monitored(child, id_):
            kill_monitored(child, id_)
    words, place = _words(pid), _variable(pid, b"XDG_RUNTIME_DIR=")
    program = next((path for name, path in pairwise(words) if name == b"-r"), b"")
    options = [word for name, word in pairwise(words) if name == b"--runtime-arg"]
    # Where it was to write its log is nothing to whom we call.
    runtime = [program, *(word for word in options if not word.startswith(b"--log"))]
    return Monitor(pid=pid, watches=id_, runtime=tuple(map(os.fsdecode, runtime)), place=place)


def _is_the_engines(pid: int) -> bool:
    """Who is in a sandbox may call itself anything, and may be root; but its pids are others."""
    own, its = os.stat("/proc/self/ns/pid"), os.stat(f"/proc/{pid}/ns/pid")
    return own.st_ino == its.st_ino and os.stat(f"/proc/{pid}").st_uid == os.geteuid()


def _variable(pid: int, name: bytes) -> str | None:
    """One of its environment; `name` ends with `=`."""
    with suppress(OSError):
        for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if word.startswith(name):
                return os.fsdecode(word.removeprefix(name)) or None
    return None


def _signal(pid: int, number: Signals, is_meant: Callable[[], bool]) -> bool:
    """Unless the number is another process's by now. Whether it was sent."""
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if is_meant():
                pidfd_send_signal(pidfd, number)
                return True
        finally:
            os.close(pidfd)
    return False


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _monitors(id_: str) -> list[int]:
    return [pid for pid in _processes() if _is_monitor(pid, id_)]


def _is_monitor(pid: int, id_: str) -> bool:
    program, *words = _words(pid)
    # `-c` is the container, also of a program's monitor; `-u` is whom it monitors.
    return program.endswith(_PROGRAM) and (b"-u", id_.encode()) in pairwise(words)


def _words(pid: int) -> Sequence[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return [b""]
