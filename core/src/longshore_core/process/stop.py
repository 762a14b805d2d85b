"""When a process is asked to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Final

import anyio
from anyio.abc import TaskGroup

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


async def wait_stop(*, when_stdin_closes: bool = False) -> str:
    """Wait until somebody asks this process to stop; say who.

    With `when_stdin_closes`, the end of standard input counts too: that is how a child learns that
    its supervisor is gone, however it went. A second signal meets Python's own handlers again.
    """
    reasons: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_on_signal, tasks, reasons)
        if when_stdin_closes:
            tasks.start_soon(_on_stdin_end, tasks, reasons)
    return reasons[0]


async def _on_signal(tasks: TaskGroup, reasons: list[str]) -> None:
    with anyio.open_signal_receiver(*STOP_SIGNALS) as signals:
        async for number in signals:
            reasons.append(number.name)
            tasks.cancel_scope.cancel()
            return


async def _on_stdin_end(tasks: TaskGroup, reasons: list[str]) -> None:
    descriptor = sys.stdin.fileno()
    while True:
        with contextlib.suppress(PermissionError):
            # What cannot be waited for, such as a file or /dev/null, can be read at once.
            await anyio.wait_readable(descriptor)
        if not os.read(descriptor, 4096):
            reasons.append("supervisor gone")
            tasks.cancel_scope.cancel()
            return
