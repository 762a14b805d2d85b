"""A process that leads a session and a process group of its own, and how all of these end."""

from __future__ import annotations

import os

from longshore_daemon.inside.kin import Kin
from longshore_daemon.inside.loop import Bell
from longshore_daemon.inside.output import now_ms
from longshore_daemon.inside.signals import SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM

Started = tuple[int, str]
"""Its pid, and the mark that it and all that it starts bear in their environment."""
Asked = tuple[str, int]
"""The key of a request, and a sum of what it asks for."""
_ROUNDS = 10
"""So often is looked for those who were being started meanwhile."""
_FOR_ALL = frozenset((SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGKILL))
"""Signals that are to end something: they are for whoever left the group, too."""


class Group:
    """One that was started, running or ended. `changed` rings when it ends."""

    __slots__ = ("asked", "changed", "ended_at", "exit_code", "mark", "pid", "signal", "started_at")

    def __init__(self, started: Started) -> None:
        self.pid, self.mark = started
        self.asked: Asked | None = None
        """How it was asked for, if under a key."""
        self.started_at = now_ms()
        self.ended_at: int | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.changed = Bell()

    @property
    def running(self) -> bool:
        return self.ended_at is None

    def send_signal(self, number: int, kin: Kin | None = None) -> bool:
        """To the whole group, and one that is to end something, to all that it has started; 0 only
        asks. False: there is no one left in the group.

        Raises PermissionError when all that are have taken another user's identity.
        """
        if not self._owns_number:
            return False
        others = _family(self.pid, self.mark, kin) if number in _FOR_ALL else []
        for pid in others:
            if _group_of(pid) != self.pid:
                _send(pid, number)
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            if number:
                raise
        return True

    def ask_to_end(self, kin: Kin | None = None) -> None:
        """Raises PermissionError."""
        self.send_signal(SIGTERM, kin)

    def has_left(self, kin: Kin | None) -> bool:
        """Whether anything lives that it has started."""
        session = self.pid if self._owns_number else None
        return bool(_family(session, self.mark, kin)) or self.send_signal(0)

    def kill(self, kin: Kin | None = None) -> None:
        """End all that it has started: the group, those that made groups or sessions of their own,
        and those below them.

        `kin` spares looking through all processes, when somebody has done so just now.
        """
        session = self.pid if self._owns_number else None
        known: set[int] = set()
        for _ in range(_ROUNDS if kin is None else 1):
            found = [pid for pid in _family(session, self.mark, kin) if pid not in known]
            if not found:
                break
            for pid in found:
                _send(pid, SIGKILL)
            known.update(found)
        if session is not None:
            _send(-session, SIGKILL)

    @property
    def _owns_number(self) -> bool:
        """As long as the group lives, no other process gets its number."""
        return self.running or not _exists(self.pid)

    def collect(self) -> None:
        """It has ended, and its status is about to be taken: read what it has written."""

    def end(self, code: int | None, signal: int | None) -> None:
        """It has ended so, and all that it has written is collected."""
        self.exit_code, self.signal = code, signal
        self.ended_at = now_ms()
        self.changed.ring()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _family(session: int | None, mark: str, kin: Kin | None) -> list[int]:
    try:
        return (kin or Kin()).family(session, mark)
    except OSError:
        return []


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
