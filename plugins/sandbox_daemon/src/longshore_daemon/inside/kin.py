"""Who descends from whom among the living processes: those whom a kill has to reach.

Sessions and parents tell it, but for one who made a session of its own and whose parent has ended:
somebody else adopted it, and the kernel knows no more. Hence a mark in the environment that each
program is started with, which all that it starts inherit.
"""

from __future__ import annotations

import os

MARK = "LONGSHORE_PROCESS"


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
            if parent in adopters and (mark := _mark_of(pid)):
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
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return ""
    prefix = f"{MARK}=".encode()
    for variable in variables:
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode("ascii", "replace")
    return ""
