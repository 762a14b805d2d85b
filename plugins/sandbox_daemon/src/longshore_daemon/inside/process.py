"""One user process: what it was started with, its input, its group and its end."""

from __future__ import annotations

import os

from longshore_daemon.inside.group import Group, Started
from longshore_daemon.inside.journal import echo
from longshore_daemon.inside.loop import WRITE, Bell, Wait
from longshore_daemon.inside.output import PIECE, Output
from longshore_daemon.inside.stream import Disconnected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore_daemon.inside.jsontext import JSON

_DRAIN_LIMIT = 1 << 20
"""No pipe holds more: what a process wrote before its end has been read after so much."""


class StdinClosed(Exception):
    """Nobody reads there any more."""


class Stdin:
    """The writing end of a pipe. Its writers take turns, so that what each sends stays together."""

    __slots__ = ("_changed", "_descriptor", "_taken")

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._changed = Bell()
        self._taken = False

    @property
    def writable(self) -> bool:
        return self._descriptor is not None

    async def take_turn(self, deadline: float) -> bool:
        """Wait for the writers before, and no longer than that; whether they have ended."""
        while self._taken:
            if not await Wait(bells=(self._changed,), deadline=deadline):
                return False
        self._taken = True
        return True

    def end_turn(self) -> None:
        self._taken = False
        self._changed.ring()

    async def write(self, data: bytes, gone: tuple[int, int], deadline: float) -> int:
        """Write at the reader's pace, until `gone` happens: the client hangs up. How much of it was
        taken: less than all at the deadline.

        Raises StdinClosed or Disconnected.
        """
        view = memoryview(data)
        while view:
            if self._descriptor is None:
                raise StdinClosed("Process stdin is closed")
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                descriptors = ((self._descriptor, WRITE), gone)
                wait = Wait(*descriptors, bells=(self._changed,), deadline=deadline)
                if not await wait:
                    break
                if wait.fired == gone[0]:
                    raise Disconnected("the writer hung up") from None
            except OSError as exc:
                self.close()
                raise StdinClosed("Process stdin is closed") from exc
        return len(data) - len(view)

    def close(self) -> None:
        """Let the process read the end of its input. Idempotent."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._changed.ring()
            os.close(descriptor)


class Command:
    """What to start, and how."""

    __slots__ = (
        "args",
        "command",
        "env",
        "logged",
        "name",
        "stderr",
        "stdin",
        "stdout",
        "timeout",
        "working_dir",
    )

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        self.args = args
        self.name: str | None = None
        """By which it can be found as well as by its pid."""
        self.env: Mapping[str, str] = {}
        self.logged = False
        """Whether its output is in the container's log, too."""
        self.working_dir: str | None = None
        self.stdin = False
        self.stdout = True
        self.stderr = True
        self.timeout: float | None = None
        """The seconds after which it is killed, whoever waits for it or not."""


class Process(Group):
    """One whose output is kept."""

    __slots__ = ("command", "output", "pipes", "stdin", "timed_out")

    def __init__(
        self, started: Started, command: Command, output: Output, stdin: int | None
    ) -> None:
        super().__init__(started)
        self.command = command
        self.output = output
        self.stdin = None if stdin is None else Stdin(stdin)
        self.timed_out = False
        self.pipes: dict[int, int] = {}
        """Where its output arrives: the stream, by descriptor."""

    def info(self) -> dict[str, JSON]:
        status = "running" if self.running else "exited" if self.signal is None else "signaled"
        shown: dict[str, JSON] = {
            "pid": self.pid,
            "status": status,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "timed_out": self.timed_out,
            "stdin_writable": self.stdin is not None and self.stdin.writable,
            "command": self.command.command,
            "args": list(self.command.args),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }
        if self.command.name is not None:
            shown["name"] = self.command.name
        return shown

    def read_once(self, descriptor: int) -> int | None:
        """How much has come; 0: it has ended; `None`: there is nothing yet."""
        try:
            data = os.read(descriptor, PIECE)
        except BlockingIOError:
            return None
        if data:
            self.output.append(self.pipes[descriptor], data)
            if self.command.logged:
                echo(self.pipes[descriptor], data)
        return len(data)

    def collect(self) -> None:
        for descriptor in self.pipes:
            left = _DRAIN_LIMIT
            while left > 0 and (length := self.read_once(descriptor)):
                left -= length

    def end(self, code: int | None, signal: int | None) -> None:
        super().end(code, signal)
        if self.stdin is not None:
            self.stdin.close()
        self.output.changed.ring()
