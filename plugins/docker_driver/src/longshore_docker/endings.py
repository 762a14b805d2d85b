"""How a container ended, from what the engine says of it. Pure.

An engine tells one number: the exit code, or 128 and the number of the signal. A program may exit
with such a code by itself, so what was done to the container decides. In a namespace of its own,
PID 1 does not heed a signal that it has no handler for; it is ended by a fault, or from outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from signal import SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGTRAP
from typing import Any, Final

from longshore_core import Exit

_SIGNALLED: Final = 128
_FAULTS: Final = frozenset({SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP})


def is_doubtful(code: int) -> bool:
    """Whether the past of the container has to be asked."""
    return code > _SIGNALLED and code - _SIGNALLED not in _FAULTS and code - _SIGNALLED < 65


def ending(code: int, *, oom: bool, past: Iterable[Mapping[str, Any]] = ()) -> Exit:
    """`past` has the engine's events of signals that were sent and memory that ran out."""
    sent = set[int]()
    for event in past:
        if event.get("Action") == "oom":
            oom = True
        else:
            sent.add(int(event.get("Actor", {}).get("Attributes", {}).get("signal", 0)))
    oom = oom and code != 0
    number = code - _SIGNALLED
    if number in _FAULTS or number in sent or (oom and number == SIGKILL):
        return Exit(signal=number, oom=oom)
    return Exit(code=code, oom=oom)
