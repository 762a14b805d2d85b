"""One user process: what it was started with, its input, its group and its end."""

from __future__ import annotations

import os

from longshore_daemon.inside.loop import WRITE, Bell, Wait
from longshore_daemon.inside.output import Output, now_ms
from longshore_daemon.inside.signals import SIGKILL
from longshore_daemon.inside.stream import Disconnected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore_daemon.inside.jsontext import JSON

Kin = tuple[int, int]
"""A process's parent and session."""


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

    async def take_turn(self) -> None:
        """Wait for the writers before. The wait ends with them, or with the process."""
        while self._taken:
            await Wait(bells=(self._changed,))
        self._taken = True

    def end_turn(self) -> None:
        self._taken = False
        self._changed.ring()

    async def write(self, data: bytes, gone: tuple[int, int]) -> None:
        """Write at the reader's pace, until `gone` happens: the client hangs up.

        Raises StdinClosed or Disconnected.
        """
        view = memoryview(data)
        while view:
            if self._descriptor is None:
                raise StdinClosed("Process stdin is closed")
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                wait = Wait((self._descriptor, WRITE), gone, bells=(self._changed,))
                await wait
                if wait.fired == gone[0]:
                    raise Disconnected("the writer hung up") from None
            except BrokenPipeError as exc:
                self.close()
                raise StdinClosed("Process stdin is closed") from exc

    def close(self) -> None:
        """Let the process read the end of its input. Idempotent."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._changed.ring()
            os.close(descriptor)


class Command:
    """What to start, and how."""

    __slots__ = ("args", "command", "env", "stderr", "stdin", "stdout", "working_dir")

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        self.args = args
        self.env: Mapping[str, str] = {}
        self.working_dir: str | None = None
        self.stdin = False
        self.stdout = True
        self.stderr = True


class Process:
    """One that was started, running or ended."""

    __slots__ = (
        "args",
        "changed",
        "command",
        "ended_at",
        "exit_code",
        "output",
        "pid",
        "pipes",
        "signal",
        "started_at",
        "stdin",
        "timed_out",
    )

    def __init__(self, pid: int, command: Command, output: Output, stdin: int | None) -> None:
        self.pid = pid
        self.command = command.command
        self.args = command.args
        self.output = output
        self.stdin = None if stdin is None else Stdin(stdin)
        self.started_at = now_ms()
        self.ended_at: int | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.timed_out = False
        self.changed = Bell()
        self.pipes: dict[int, int] = {}
        """Where its output arrives: the stream, by descriptor."""

    @property
    def running(self) -> bool:
        return self.ended_at is None

    def info(self) -> dict[str, JSON]:
        status = "running" if self.running else "exited" if self.signal is None else "signaled"
        return {
            "pid": self.pid,
            "status": status,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "timed_out": self.timed_out,
            "stdin_writable": self.stdin is not None and self.stdin.writable,
            "command": self.command,
            "args": list(self.args),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }

    def send_signal(self, number: int) -> bool:
        """To the whole group; 0 only asks. False: there is no one left in it.

        Raises PermissionError when all that are have taken another user's identity.
        """
        if not self.running and _exists(self.pid):
            # Its number is some other process's by now: as long as the group lives, none gets it.
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            if number:
                raise
        return True

    def kill(self, living: Mapping[int, Kin] | None = None) -> None:
        """End all of its session: the group, those that made groups of their own, and those below
        them that made sessions of their own.

        `living` spares looking through all processes, when `kin` has been asked before.
        """
        if not self.running and _exists(self.pid):
            return
        for pid in (*_family(self.pid, living), -self.pid):
            try:
                os.kill(pid, SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue

    def end(self, code: int | None, signal: int | None) -> None:
        """It has ended so; all that it has written is in the output."""
        self.exit_code, self.signal = code, signal
        self.ended_at = now_ms()
        if self.stdin is not None:
            self.stdin.close()
        self.changed.ring()
        self.output.changed.ring()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kin() -> dict[int, Kin]:
    """Parent and session of every living process.

    Raises OSError where there is no /proc, or a foreign one.
    """
    if os.readlink("/proc/self") != str(os.getpid()):
        raise OSError("/proc is of other processes")
    found: dict[int, Kin] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent, _, session, *_ = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if state not in (b"Z", b"X"):
                found[int(name)] = int(parent), int(session)
    return found


def _family(session: int, living: Mapping[int, Kin] | None) -> list[int]:
    """Who is in the session, and all who descend from those: children come after their parents."""
    if living is None:
        try:
            living = kin()
        except OSError:
            return []
    family = [pid for pid, (_, of) in living.items() if of == session]
    for pid in family:
        family += [
            child for child, (parent, _) in living.items() if parent == pid and child not in family
        ]
    return family
