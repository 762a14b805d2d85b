"""Who descends from whom among the living processes: those whom a kill has to reach.

Sessions and parents tell it, but for one who made a session of its own and whose parent has ended:
somebody else adopted it, and the kernel knows no more. Hence a mark in the environment that each
program is started with, which all that it starts inherit.
"""

from __future__ import annotations

import os
from time import sleep

MARK = "LONGSHORE_PROCESS"
_EXEC_LOOKS = 100
_EXEC_SECONDS = 0.001


class Kin:
    """The living processes at one moment."""

    __slots__ = ("_orphans", "_parents", "_sessions")

    def __init__(self) -> None:
        """Raises OSError where there is no /proc, or a foreign one."""
        if os.readlink("/proc/self") != str(os.getpid()):
            raise OSError("/proc is of other processes")
        self._orphans: dict[str, list[int]] | None = None
        """Who may have been adopted, by mark: looked up once for all families."""
        self._parents: dict[int, int] = {}
        self._sessions: dict[int, int] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", "rb") as file:
                        state, parent, _, session, *_ = file.read().rpartition(b")")[2].split()
                except OSError:
                    continue
                if state not in (b"Z", b"X"):
                    self._parents[int(name)] = int(parent)
                    self._sessions[int(name)] = int(session)

    def has_session(self, session: int) -> bool:
        return session in self._sessions.values()

    def family(self, session: int | None, mark: str) -> list[int]:
        """Who is in the session or bears the mark, and all who descend from those.

        Its leader comes first, and has no time to complain of the others' end.
        """
        family = [pid for pid, of in self._sessions.items() if of == session]
        family.sort(key=lambda pid: pid != session)
        if self._orphans is None:
            self._orphans = self._find_orphans()
        family += [pid for pid in self._orphans.get(mark, ()) if pid not in family]
        for pid in family:
            family += [
                child
                for child, parent in self._parents.items()
                if parent == pid and child not in family
            ]
        return family

    def _find_orphans(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        adopters = self._ancestors()
        for pid, parent in self._parents.items():
            # Whose parent ended while we looked may have been adopted since.
            adopted = parent in adopters or parent not in self._parents
            if adopted and (mark := _mark_of(pid)):
                found.setdefault(mark, []).append(pid)
        return found

    def _ancestors(self) -> set[int]:
        """This process, and those above it: whoever adopts orphans from here is among them."""
        found: set[int] = set()
        pid = os.getpid()
        while pid and pid not in found:
            found.add(pid)
            pid = self._parents.get(pid, 0)
        return found


def new_mark() -> str:
    return os.urandom(8).hex()


def _mark_of(pid: int) -> str:
    """That of a process; empty if it has none, or is none of our business."""
    prefix = f"{MARK}=".encode()
    for variable in _environment(pid).split(b"\0"):
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode("ascii", "replace")
    return ""


def _environment(pid: int) -> bytes:
    """What the process was started with; empty if we may not look into it, or it has ended.

    There is nothing to be read of one that is becoming another program, for much less than a
    millisecond as a rule: it is asked again.
    """
    try:
        for _ in range(_EXEC_LOOKS):
            with open(f"/proc/{pid}/environ", "rb") as file:
                found = file.read()
            if found or _started_with_nothing(pid):
                return found
            sleep(_EXEC_SECONDS)
    except OSError:
        return b""
    return b""


def _started_with_nothing(pid: int) -> bool:
    """Whether its environment is known and empty; that of one that has ended, and of a thread of
    the kernel, is.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    # Fields 23, 50 and 51 of proc_pid_stat(5): vsize, env_start, env_end. The first is field 3.
    memory, start, end = fields[20], fields[47], fields[48]
    return memory == b"0" or (start == end and end != b"0")
