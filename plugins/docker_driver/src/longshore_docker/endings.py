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
_AT_ONCE_NANOS: Final = 1_000_000_000
"""Within this after memory ran out, an end is for that reason. Before, it was a child's."""
_FAULTS: Final = frozenset({SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP})


def is_doubtful(code: int) -> bool:
    """Whether the past of the container has to be asked."""
    return code > _SIGNALLED and code - _SIGNALLED not in _FAULTS and code - _SIGNALLED < 65


def ending(code: int, *, oom: bool, past: Iterable[Mapping[str, Any]] = ()) -> Exit:
    """`past` has the engine's events, in their order: signals that were sent, memory that ran out,
    and the end. `oom` is the engine's word that memory has run out at some time."""
    sent = set[int]()
    ran_out: int | None = None
    died: int | None = None
    for event in past:
        match event.get("Action"):
            case "oom":
                ran_out = int(event["timeNano"])
            case "die":
                died = int(event["timeNano"])
            case _:
                number = int(event.get("Actor", {}).get("Attributes", {}).get("signal", 0))
                sent.add(number)
                if number == SIGKILL and ran_out is not None:
                    # It was a child's end, and PID 1 lived until now.
                    oom, ran_out = False, None
    number = code - _SIGNALLED
    if ran_out is not None:
        oom = code != 0 and (died is None or died - ran_out <= _AT_ONCE_NANOS)
    else:
        # No such event is remembered, and only a kill that nobody sent is like one.
        oom = oom and number == SIGKILL and SIGKILL not in sent
    if number in _FAULTS or number in sent or (oom and number == SIGKILL):
        return Exit(signal=number, oom=oom)
    return Exit(code=code, oom=oom)
