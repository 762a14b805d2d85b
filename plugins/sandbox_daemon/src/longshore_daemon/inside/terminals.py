"""The PTY sessions: started, limited in number, and ended when nobody cares for them."""

from __future__ import annotations

import os
from fcntl import ioctl
from time import monotonic

from longshore_daemon.inside.loop import Wait
from longshore_daemon.inside.spawn import SpawnError, execute, explain
from longshore_daemon.inside.terminal import Size, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.loop import Loop
    from longshore_daemon.inside.process import Command
    from longshore_daemon.inside.processes import Processes

LIMIT = 64
_TIOCGPTN, _TIOCSPTLCK = 0x80045430, 0x40045431


class Patience:
    """In seconds."""

    __slots__ = ("alone", "grace", "kept")

    def __init__(self, *, alone: float = 300.0, kept: float = 60.0, grace: float = 5.0) -> None:
        self.alone = alone
        """How long a session lives on when nobody looks on."""
        self.kept = kept
        """How long one that has ended can be asked about."""
        self.grace = grace
        """Between SIGHUP and SIGKILL."""


class TooManySessions(Exception):
    """No other one can be started before one has ended."""


class Terminals:
    """The table of them. Their programs inherit what processes inherit, and end with them."""

    def __init__(self, loop: Loop, processes: Processes, patience: Patience | None = None) -> None:
        self._loop = loop
        self._processes = processes
        self._patience = patience or Patience()
        self._table: dict[str, Terminal] = {}

    def all(self) -> list[Terminal]:
        return list(self._table.values())

    def get(self, session_id: str) -> Terminal | None:
        return self._table.get(session_id)

    def open(self, command: Command, size: Size) -> Terminal:
        """Start a program on a terminal of its own. Raises SpawnError or TooManySessions."""
        self._make_room()
        try:
            master, path = _open_terminal()
        except OSError as exc:
            raise SpawnError(f"cannot open a terminal: {exc.strerror}") from exc
        try:
            size.apply(master)
            env = {"TERM": "xterm-256color", **self._processes.env, **command.env}
            # The leader of a session gets the first terminal that it opens as the session's own.
            opened = (os.POSIX_SPAWN_OPEN, 0, path, os.O_RDWR, 0)
            copies = [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
            started = execute(command, env, [opened, *copies])
        except OSError as exc:
            os.close(master)
            raise explain(command, exc) from exc
        terminal = Terminal(started, master, command, size)
        self._table[terminal.id] = terminal
        self._processes.others[terminal.pid] = terminal
        self._loop.start(terminal.show())
        self._loop.start(self._look_after(terminal))
        return terminal

    def end(self, terminal: Terminal) -> None:
        """SIGHUP now, SIGKILL after the grace; then it is forgotten, as one that has ended is."""
        terminal.hang_up(self._patience.grace)

    def _make_room(self) -> None:
        """Those that have ended give way to a new one."""
        ended = [terminal for terminal in self._table.values() if not terminal.running]
        if len(self._table) - len(ended) >= LIMIT:
            raise TooManySessions(f"there are {LIMIT} PTY sessions already")
        for terminal in ended[: max(0, len(self._table) - LIMIT + 1)]:
            self._remove(terminal)

    def _remove(self, terminal: Terminal) -> None:
        if not terminal.removed:
            terminal.removed = True
            del self._table[terminal.id]
            if self._processes.others.get(terminal.pid) is terminal:
                del self._processes.others[terminal.pid]
            terminal.changed.ring()
            terminal.attendance.ring()

    async def _look_after(self, terminal: Terminal) -> None:
        """Until it has ended and is forgotten."""
        alone_until = monotonic() + self._patience.alone
        while terminal.running:
            if terminal.onlookers:
                alone_until = float("inf")
            elif alone_until == float("inf"):
                alone_until = monotonic() + self._patience.alone
            deadline = alone_until if terminal.end_by is None else terminal.end_by
            if not await Wait(bells=(terminal.attendance,), deadline=deadline):
                terminal.end_by = deadline
                terminal.kill()
                while terminal.running:
                    await Wait(bells=(terminal.attendance,))
        kept_until = monotonic() + self._patience.kept
        while not terminal.removed:
            if terminal.end_by is not None:
                terminal.kill()
                self._remove(terminal)
            elif not await Wait(bells=(terminal.attendance,), deadline=kept_until):
                self._remove(terminal)


def _open_terminal() -> tuple[int, str]:
    """Our side, and the path of the other. The C library's way there looks for a group `tty`, with
    code that the image supplies."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        ioctl(master, _TIOCSPTLCK, bytes(4))
        number = int.from_bytes(ioctl(master, _TIOCGPTN, bytes(4)), "little")
    except OSError:
        os.close(master)
        raise
    return master, f"/dev/pts/{number}"
