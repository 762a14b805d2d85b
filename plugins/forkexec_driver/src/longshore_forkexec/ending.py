"""Ending a container, one blow at a time. Blocking: to be used from a thread.

As long as the shim lives, it is told by PID 1's death, and ends the rest: all of it is below the
shim. Only when the shim is gone, or hangs, must we look for ourselves: in the container's groups,
and among all processes of the host for those that carry its cookie.
"""

from __future__ import annotations

import contextlib
from signal import SIGKILL

from longshore_forkexec import cgroups
from longshore_forkexec.processes import Process, bearing, is_alive, send
from longshore_forkexec.records import Directory, Life


def runners(life: Life | None, boot: str) -> frozenset[Process]:
    """Those of a container's shim and PID 1 that run now."""
    if life is None or life.boot != boot:
        return frozenset()
    return frozenset(each for each in (life.shim, life.main) if each and is_alive(each))


def strike(directory: Directory, cookie: str, boot: str, *, forced: bool) -> frozenset[Process]:
    """Kill, and answer whose end must be waited for before the next blow; nobody's: all is done.

    `forced` spares not even the shim, so that PID 1's exit code may be lost.
    """
    if (launch := directory.launch()) is None:
        return frozenset()
    life = directory.life()
    known = runners(life, boot)
    if directory.is_cleared():
        return known
    if life and life.shim in known and not forced:
        for process in known - {life.shim}:
            send(process, SIGKILL)
        return frozenset({life.shim})
    victims = known | cgroups.members(launch.cgroups) | bearing(cookie)
    cgroups.kill(launch.cgroups)
    for process in victims:
        # One that has become another user's is not ours to kill: it is waited for all the same.
        with contextlib.suppress(PermissionError):
            send(process, SIGKILL)
    return frozenset(process for process in victims if is_alive(process))


def dismantle(directory: Directory) -> bool:
    """Remove the container's groups. False: a process is still on its way out of one."""
    launch = directory.launch()
    try:
        cgroups.remove(launch.cgroups if launch else ())
    except OSError:
        return False
    return True
