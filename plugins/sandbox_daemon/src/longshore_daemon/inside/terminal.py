"""A PTY session: a program on a terminal of its own, what it showed, and who looks on.

What it shows is kept for those who come later, and for as long as those who look on still need it.
The program is held to the pace of the fastest of them, as a terminal holds it: none of what it
shows is lost to somebody who reads. One that falls behind the others by too much is told so.
"""

from __future__ import annotations

import os
from fcntl import ioctl
from struct import pack
from termios import TIOCGPGRP, TIOCSWINSZ
from time import monotonic

from longshore_daemon.inside.group import Group, Started
from longshore_daemon.inside.loop import READ, Bell, Wait, pause
from longshore_daemon.inside.signals import SIGCONT, SIGHUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.kin import Kin
    from longshore_daemon.inside.process import Command

HISTORY = 1 << 20
"""How much of what it showed is kept for those who come later, in bytes."""
_KEPT = 4 << 20
"""How much is kept for those who are behind."""
_AHEAD = 262144
"""How far the program may be ahead of the fastest who looks on."""
_PIECE = 65536
_DRAIN_LIMIT = 1 << 20
"""No terminal holds more: what a program showed before its end has been read after so much."""
_HUNG_UP_SECONDS = 0.1
_ROWS, _COLUMNS = 500, 1000


class Onlooker:
    """How far somebody has come with what the terminal shows."""

    __slots__ = ("position", "reading")

    def __init__(self) -> None:
        self.position = 0
        self.reading = False


class Size:
    """Of a terminal, within what is allowed."""

    __slots__ = ("columns", "rows")

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = max(1, min(rows, _ROWS))
        self.columns = max(1, min(columns, _COLUMNS))

    def apply(self, descriptor: int) -> None:
        ioctl(descriptor, TIOCSWINSZ, pack("HHHH", self.rows, self.columns, 0, 0))


class Terminal(Group):
    """A session. `changed` rings when there is more to show, and when it ends."""

    __slots__ = (
        "_history",
        "attendance",
        "command",
        "end_by",
        "id",
        "master",
        "onlookers",
        "progress",
        "removed",
        "size",
        "start",
        "token",
        "total",
    )

    def __init__(self, started: Started, master: int, command: Command, size: Size) -> None:
        super().__init__(started)
        self.id = _identifier()
        self.token = os.urandom(32).hex()
        self.command = command
        self.size = size
        self.master: int | None = master
        """Our side of the terminal, until the session has ended."""
        self.end_by: float | None = None
        """Somebody wants it to end: by then."""
        self.removed = False
        self.onlookers: list[Onlooker] = []
        self.attendance = Bell()
        """Rings when onlookers come or go, and when the session is to end, or has ended."""
        self.progress = Bell()
        """Rings when onlookers have read on."""
        self._history = bytearray()
        self.start = 0
        """The first byte that is still there, of `total`."""
        self.total = 0

    def info(self) -> dict[str, JSON]:
        shown: dict[str, JSON] = {
            "session_id": self.id,
            "pid": self.pid,
            "command": self.command.command,
            "args": list(self.command.args),
            "rows": self.size.rows,
            "cols": self.size.columns,
            "created_at": self.started_at,
            "is_alive": self.running,
        }
        if self.ended_at is not None:
            shown["ended_at"] = self.ended_at
        if self.exit_code is not None:
            shown["exit_code"] = self.exit_code
        if self.signal is not None:
            shown["signal"] = self.signal
        return shown

    def resize(self, size: Size) -> None:
        """The foreground is told by SIGWINCH. Nothing when it has ended. Raises OSError."""
        if self.master is not None:
            size.apply(self.master)
            self.size = size

    def read(self, position: int, limit: int) -> bytes:
        """At most `limit` bytes of what it showed, from there on."""
        first = position - self.start
        with memoryview(self._history) as view:
            return bytes(view[first : first + limit])

    def advance(self, onlooker: Onlooker, length: int) -> None:
        onlooker.position += length
        self.progress.ring()

    def attend(self, onlooker: Onlooker) -> None:
        self.onlookers.append(onlooker)
        self.attendance.ring()

    def leave(self, onlooker: Onlooker) -> None:
        self.onlookers.remove(onlooker)
        self.attendance.ring()
        self.progress.ring()

    def ask_to_end(self, kin: Kin | None = None) -> None:
        self.hang_up(float("inf"))

    def hang_up(self, seconds: float) -> None:
        """What a terminal does when its line is cut. What is left then, has so long to end."""
        deadline = monotonic() + seconds
        self.end_by = deadline if self.end_by is None else min(self.end_by, deadline)
        groups = {self.pid}
        if self.master is not None and (foreground := self._foreground()):
            groups.add(foreground)
        for group in groups if self.running else ():
            for number in (SIGHUP, SIGCONT):
                # One that is stopped could not even end.
                try:
                    os.killpg(group, number)
                except (ProcessLookupError, PermissionError):
                    continue
        self.attendance.ring()

    def _foreground(self) -> int:
        try:
            raw = ioctl(self.master or -1, TIOCGPGRP, bytes(4))
        except OSError:
            return 0
        return max(0, int.from_bytes(raw, "little", signed=True))

    async def show(self) -> None:
        """Take what the program shows, to its end."""
        while self.running:
            if self._is_ahead():
                await Wait(bells=(self.progress, self.attendance))
                continue
            length = self._read_once()
            if length:
                await pause()
            elif length is None:
                await Wait((self.master or 0, READ), bells=(self.attendance,))
            else:
                # Nobody has it open, and yet the program runs: it may open it again.
                await Wait(bells=(self.attendance,), deadline=monotonic() + _HUNG_UP_SECONDS)
        if self.master is not None:
            master, self.master = self.master, None
            os.close(master)

    def collect(self) -> None:
        left = _DRAIN_LIMIT
        while left > 0 and (length := self._read_once()):
            left -= length

    def end(self, code: int | None, signal: int | None) -> None:
        super().end(code, signal)
        self.attendance.ring()

    def _read_once(self) -> int | None:
        """How much has come; 0: nobody has it open; `None`: there is nothing yet."""
        try:
            data = os.read(self.master or 0, _PIECE)
        except BlockingIOError:
            return None
        except OSError:
            return 0
        self._history += data
        self.total += len(data)
        self._forget()
        self.changed.ring()
        return len(data)

    def _forget(self) -> None:
        """Let go of what is neither history nor needed by those who look on."""
        needed = [onlooker.position for onlooker in self.onlookers if onlooker.reading]
        first = max(self.total - _KEPT, min([self.total - HISTORY, *needed]))
        if first > self.start:
            del self._history[: first - self.start]
            self.start = first

    def _is_ahead(self) -> bool:
        positions = [onlooker.position for onlooker in self.onlookers if onlooker.reading]
        return bool(positions) and self.total - max(positions) > _AHEAD


def _identifier() -> str:
    """21 characters that need no quoting anywhere."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
    return "".join(alphabet[byte & 63] for byte in os.urandom(21))
