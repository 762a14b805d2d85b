"""Signals: their numbers, and their arrival as readable bytes."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

SIGCHLD: int = _signal.SIGCHLD
SIGCONT: int = _signal.SIGCONT
SIGHUP: int = _signal.SIGHUP
SIGINT: int = _signal.SIGINT
SIGKILL: int = _signal.SIGKILL
SIGQUIT: int = _signal.SIGQUIT
SIGTERM: int = _signal.SIGTERM
ALL: tuple[int, ...] = tuple(_signal.valid_signals())
"""User processes get them as the system meant them, whatever the interpreter ignores, or `nohup`
before it, or a shell that has started the worker in the background."""
HIGHEST = 64


def open_signals(*numbers: int) -> int:
    """From now on these arrive as one byte each on the descriptor that is returned."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # A full pipe means that there are bytes to wake up for.
    _signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in numbers:
        _signal.signal(number, _arrived)
    return reading


def _arrived(*_: object) -> None:
    """The byte is written already, at C level: only signals with a handler have one."""
