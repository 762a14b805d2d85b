"""One process in a sandbox, and whoever has started it: input, output, signals, exit status."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Final

import anyio

from longshore._async_inside import AsyncProcess
from longshore._async_inside_channels import AsyncTerminal
from longshore._errors import ProcessNotFoundError, SandboxError, StdinClosedError
from longshore._sandboxes import console

TIMED_OUT: Final = 124
"""As timeout(1) has it."""
_BURST_SECONDS: Final = 0.005
_MOST_BURST: Final = 256 << 10
_END_OF_INPUT: Final = b"\x04"


async def attend(process: AsyncProcess, *, interactive: bool) -> int:
    """Pass bytes and signals on until the process has ended. Answers an exit status."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_pass_signals, process)
        if interactive:
            tasks.start_soon(_pass_input, process)
        async with process.connect() as output:
            async for chunk in output:
                console.warn_of_gap(chunk)
                descriptor = console.STDOUT if chunk.stream == "stdout" else console.STDERR
                await console.write(descriptor, chunk.data)
            console.warn_of_loss(output)
        tasks.cancel_scope.cancel()
    info = await process.info()
    return TIMED_OUT if info.timed_out else status(info.exit_code)


def status(exit_code: int | None) -> int:
    """As shells have it: 128 and the number of the signal that ended it."""
    code = exit_code or 0
    return 128 - code if code < 0 else code


async def _pass_signals(process: AsyncProcess) -> None:
    """Ctrl-C is for the process. Pressed again, it is meant."""
    asked = 0
    with anyio.open_signal_receiver(signal.SIGINT, *console.ENDINGS) as signals:
        async for number in signals:
            asked += 1
            with suppress(ProcessNotFoundError):
                await (process.signal(number) if asked == 1 else process.kill())


async def _pass_input(process: AsyncProcess) -> None:
    source = _Input()
    try:
        while piece := await source.read():
            await process.write(await source.burst(piece))
        await process.close_stdin()
    except (StdinClosedError, ProcessNotFoundError):
        # As with a pipe to `head`: it has read what it wanted.
        return


class _Input:
    """Standard input, to its end. A terminal tells of that only once."""

    def __init__(self) -> None:
        self._is_over = False

    async def read(self) -> bytes:
        piece = b"" if self._is_over else await console.read(console.STDIN)
        self._is_over = not piece
        return piece

    async def burst(self, piece: bytes) -> bytes:
        """All that comes at once: for input that flows, not one request for each piece."""
        found = bytearray()
        while piece:
            found += piece
            piece = b""
            if len(found) < _MOST_BURST:
                with anyio.move_on_after(_BURST_SECONDS):
                    piece = await self.read()
        return bytes(found)


async def attend_terminal(terminal: AsyncTerminal, *, interactive: bool) -> int:
    """As `attend`, but everything typed is for the process, Ctrl-C as well."""
    asked = list[int]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(console.end_when_asked, tasks.cancel_scope, asked)
        tasks.start_soon(_pass_size, terminal)
        if interactive:
            tasks.start_soon(_pass_keys, terminal)
        async for piece in terminal:
            await console.write(console.STDOUT, piece)
        tasks.cancel_scope.cancel()
    return 128 + asked[0] if asked else status(terminal.exit_code)


async def _pass_size(terminal: AsyncTerminal) -> None:
    with anyio.open_signal_receiver(signal.SIGWINCH) as signals, suppress(SandboxError):
        async for _ in signals:
            now = console.size(console.STDOUT)
            await terminal.resize(columns=now.columns, rows=now.lines)


async def _pass_keys(terminal: AsyncTerminal) -> None:
    # What breaks here breaks for who reads as well, who knows whether it was an end or an error.
    with suppress(SandboxError):
        while keys := await console.read(console.STDIN):
            await terminal.write(keys)
        await terminal.write(_END_OF_INPUT)
