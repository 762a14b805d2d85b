"""The terminal or the pipes that the command itself has been given."""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

import anyio
import anyio.to_thread
import click

from longshore._async_inside import AsyncOutput
from longshore._model import Chunk

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
_PIECE: Final = 64 << 10
ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def raw(descriptor: int) -> Generator[None]:
    """Every key as it is pressed, Ctrl-C among them; as it was before, whatever happens."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size(descriptor: int) -> os.terminal_size:
    """Columns and rows, 80 and 24 of what is no terminal or does not know its size."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        found = os.terminal_size((0, 0))
    return found if found.columns and found.lines else os.terminal_size((80, 24))


async def read(descriptor: int) -> bytes:
    """What has come; empty at the end."""
    # A file on a disk is always ready, which is why nobody can wait for it.
    with suppress(PermissionError):
        await anyio.wait_readable(descriptor)
    try:
        return os.read(descriptor, _PIECE)
    except OSError:
        # Of a terminal that has been closed.
        return b""


async def write(descriptor: int, data: bytes) -> None:
    """All of it, in a thread: a reader may let us wait, and signals must not."""
    await anyio.to_thread.run_sync(_write, descriptor, data)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Somebody who shares it with us does not want to wait. We do.
            select.select([], [descriptor], [])


def warn_of_gap(chunk: Chunk) -> None:
    """Say that something is missing before it, if so."""
    if chunk.missing:
        click.echo(f"warning: {chunk.missing} bytes are gone: the sandbox keeps no more", err=True)


def warn_of_loss(output: AsyncOutput) -> None:
    """Say at its end that it was not all, if so."""
    if output.output_lost:
        message = "the last of the output is gone: the sandbox's disk is full"
        click.echo(f"warning: {message}; remove what it no longer needs, or set --disk", err=True)


async def end_when_asked(scope: anyio.CancelScope, asked: list[int]) -> None:
    """Cancel it on SIGTERM and SIGHUP, so that terminals are left as they were."""
    with anyio.open_signal_receiver(*ENDINGS) as signals:
        async for number in signals:
            asked.append(number)
            scope.cancel()
