"""Getting what was written to the disk, which may take seconds, without anybody else waiting."""

from __future__ import annotations

import os
from _thread import start_new_thread

from longshore_daemon.inside.loop import READ, Wait


async def synchronize(descriptor: int) -> None:
    """Wait until a file is on the disk. Raises OSError.

    The one thing that is done in a thread of its own: the system offers no other way to wait for
    it together with the rest.
    """
    reading, writing = os.pipe()
    failure: list[OSError] = []
    try:
        try:
            start_new_thread(_synchronize, (descriptor, writing, failure))
        except RuntimeError:
            # There may be no other thread: then all wait.
            _synchronize(descriptor, writing, failure)
        await Wait((reading, READ))
    finally:
        os.close(reading)
    if failure:
        raise failure[0]


def _synchronize(descriptor: int, writing: int, failure: list[OSError]) -> None:
    try:
        os.fsync(descriptor)
    except OSError as exc:
        failure.append(exc)
    finally:
        os.close(writing)
