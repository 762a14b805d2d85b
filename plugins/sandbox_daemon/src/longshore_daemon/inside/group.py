"""A process that leads a session and a process group of its own, and how all of these end."""

from __future__ import annotations

import os

from longshore_daemon.inside.loop import Bell
from longshore_daemon.inside.output import now_ms
from longshore_daemon.inside.signals import SIGKILL, SIGTERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

Kin = tuple[int, int]
"""A process's parent and session."""


class Group:
    """One that was started, running or ended. `changed` rings when it ends."""

    __slots__ = ("changed", "ended_at", "exit_code", "pid", "signal", "started_at")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.started_at = now_ms()
        self.ended_at: int | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.changed = Bell()

    @property
    def running(self) -> bool:
        return self.ended_at is None

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

    def ask_to_end(self) -> None:
        """Raises PermissionError."""
        self.send_signal(SIGTERM)

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
