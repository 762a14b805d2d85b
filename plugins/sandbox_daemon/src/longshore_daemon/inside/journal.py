"""What the daemon has to say, on standard error: the container's log."""

from __future__ import annotations

import os
import stat
from select import POLLOUT, poll

_PIECE = 4096
"""A pipe that takes anything at all takes so much at once."""


def note(message: str) -> None:
    """Write one line. Nobody may listen any more, or not read on, and that must not hurt."""
    ready = poll()
    ready.register(2, POLLOUT)
    try:
        if ready.poll(0):
            os.write(2, f"longshore-daemon: {message}\n".encode("utf-8", "replace"))
    except OSError:
        return


def echo(stream: int, data: bytes) -> None:
    """Write what the entrypoint has written to an engine's log, if one listens. Never waits: what a
    slow engine does not take is lost there, and nowhere else."""
    descriptor = stream + 1
    ready = poll()
    ready.register(descriptor, POLLOUT)
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return  # a file, which nobody would keep small
        for start in range(0, len(data), _PIECE):
            if not any(events & POLLOUT for _, events in ready.poll(0)):
                return
            os.write(descriptor, data[start : start + _PIECE])
    except OSError:
        return
