"""Keeping a few processes up, and taking them down in order.

Each child leads a process group of its own, so that a terminal's Ctrl-C reaches the supervisor
alone, and reads from a pipe whose other end the supervisor holds: however the supervisor goes, the
pipe closes, and the child stops. A child that dies is started again, later each time. One that ends
with status 2 has a configuration that starting again will not mend, and ends everything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import click
from anyio.abc import ByteReceiveStream, Process, TaskStatus

from longshore._refusal import CONFIG_STATUS

FIRST_PAUSE_SECONDS: Final = 0.5
LAST_PAUSE_SECONDS: Final = 30.0
STABLE_SECONDS: Final = 30.0
"""After this long, a death is news, and no part of a series."""
HURRY_SECONDS: Final = 2.0
OUTPUT_SECONDS: Final = 1.0
LINE_LIMIT: Final = 64 * 1024
READY_INTERVAL_SECONDS: Final = 0.05

COLOURS: Final = ("cyan", "green", "magenta", "yellow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to keep up. `ready` answers at once, and is asked until it says yes."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]]
    stop_seconds: float
    """How long it may take to stop when it is asked to."""


class Screen:
    """Where everybody's lines go: each under its owner's name, coloured on a terminal only."""

    def __init__(self, names: Sequence[str]) -> None:
        self._width = max(map(len, names))
        colourful = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.unread = anyio.Event()
        self._colours = dict(zip(names, COLOURS, strict=False)) if colourful else {}

    def say(self, text: str) -> None:
        """The supervisor's own voice. Nobody reads any more: `unread` is set, and nothing said.

        What cannot be written for another reason is lost: sandboxes outlive a disk that is full.
        """
        if self.unread.is_set():
            return
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self.unread.set()
            # What is still in Python's buffer must find a reader when the process exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError:
            return

    def relay(self, name: str, line: str) -> None:
        """A child's line. A terminal that is held up holds up the children too, as it should."""
        prefix = f"{name:<{self._width}} |"
        if name in self._colours:
            prefix = click.style(prefix, fg=self._colours[name])
        self.say(f"{prefix} {line}")


class Child:
    """One program: the process that runs it now, and the pauses between one and the next."""

    def __init__(self, program: Program, screen: Screen) -> None:
        self.program = program
        self._screen = screen
        self._process: Process | None = None
        self._stopping = anyio.Event()
        self._gone = anyio.Event()
        self._last_lines = deque[str](maxlen=50)

    async def keep(self, on_refusal: Callable[[str], None]) -> None:
        """Run the program until `stop`; `on_refusal` hears why when it wants another config."""
        pause = FIRST_PAUSE_SECONDS
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                status = await self._run()
                if self._stopping.is_set():
                    return
                if status == CONFIG_STATUS:
                    on_refusal(self._complaint())
                    return
                if time.monotonic() - began > STABLE_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                said = f"{self.program.name} {_ended(status)}; starting it again in {pause:g} s"
                self._screen.say(said)
                with anyio.move_on_after(pause):
                    await self._stopping.wait()
                pause = min(pause * 2, LAST_PAUSE_SECONDS)
        finally:
            self._gone.set()

    async def stop(self, hurry: anyio.Event) -> None:
        """Ask it to stop, and see to it that it does. `hurry` cuts the patience short."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._insist, hurry)
            await self._gone.wait()
            tasks.cancel_scope.cancel()

    async def _insist(self, hurry: anyio.Event) -> None:
        with anyio.move_on_after(self.program.stop_seconds) as patience:
            await hurry.wait()
            # The second signal meets the default handler of a child that is stopping already.
            self._signal(signal.SIGTERM)
            patience.deadline = anyio.current_time() + HURRY_SECONDS
            await anyio.sleep_forever()
        self._screen.say(f"{self.program.name} does not stop; killing it")
        self._kill_group()

    async def _run(self) -> int:
        process = await anyio.open_process(
            self.program.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._process = process
        try:
            if self._stopping.is_set():
                self._signal(signal.SIGTERM)
            async with anyio.create_task_group() as tasks:
                if process.stdout is not None:
                    tasks.start_soon(self._relay, process.stdout)
                await process.wait()
                # Something that the child started may hold its output open for ever.
                tasks.cancel_scope.deadline = anyio.current_time() + OUTPUT_SECONDS
            return await process.wait()
        finally:
            if process.returncode is None or self._stopping.is_set():
                self._kill_group()
            with anyio.CancelScope(shield=True):
                await process.aclose()
            self._process = None

    async def _relay(self, output: ByteReceiveStream) -> None:
        pending = b""
        async for chunk in output:
            *lines, pending = (pending + chunk).split(b"\n")
            if len(pending) > LINE_LIMIT:
                lines, pending = [*lines, pending], b""
            for line in lines:
                self._show(line)
        if pending:
            self._show(pending)

    def _show(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._last_lines.append(text)
        self._screen.relay(self.program.name, text)

    def _complaint(self) -> str:
        said = [line for line in self._last_lines if line.startswith("error: ")]
        reason = said[-1].removeprefix("error: ") if said else "its configuration is refused"
        return f"{self.program.name}: {reason}"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _kill_group(self) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


class Supervisor:
    """Starts all programs at once, and stops them one after the other, the first one first."""

    def __init__(self, programs: Sequence[Program], screen: Screen) -> None:
        self._screen = screen
        self._children = [Child(program, screen) for program in programs]
        self._over = anyio.Event()
        self._hurry = anyio.Event()
        self._failure: tuple[int, str] | None = None

    async def run(self, on_ready: Callable[[], None], startup_seconds: float) -> int:
        """Keep everything up until a signal or a failure; the answer is the exit status.

        `on_ready` is called once, when every program has said that it is ready.
        """
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._listen)
            for child in self._children:
                tasks.start_soon(child.keep, self._refused)
            tasks.start_soon(self._await_ready, on_ready, startup_seconds)
            tasks.start_soon(self._await_reader_gone)
            await self._over.wait()
            for child in self._children:
                await child.stop(self._hurry)
            tasks.cancel_scope.cancel()
        if self._failure is None:
            return 0
        status, message = self._failure
        sys.stderr.write(f"error: {message}\n")
        return status

    def _refused(self, message: str) -> None:
        self._fail(CONFIG_STATUS, message)

    def _fail(self, status: int, message: str) -> None:
        self._failure = self._failure or (status, message)
        self._over.set()

    async def _listen(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if self._over.is_set():
                    self._screen.say("hurrying")
                    self._hurry.set()
                else:
                    again = "; Ctrl-C again hurries" if number == signal.SIGINT else ""
                    self._screen.say(f"\nstopping{again}")
                    self._over.set()

    async def _await_reader_gone(self) -> None:
        await self._screen.unread.wait()
        self._over.set()

    async def _await_ready(self, on_ready: Callable[[], None], startup_seconds: float) -> None:
        waiting = list(self._children)
        with anyio.move_on_after(startup_seconds):
            while waiting:
                if await waiting[0].program.ready():
                    del waiting[0]
                else:
                    await anyio.sleep(READY_INTERVAL_SECONDS)
            on_ready()
            return
        name = waiting[0].program.name
        self._fail(1, f"{name} was not ready within {startup_seconds:g} s; its lines above say why")


def _ended(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
