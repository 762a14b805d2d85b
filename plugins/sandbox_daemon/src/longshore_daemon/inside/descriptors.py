"""How many descriptors may be open: as many as can be here, and as many as ever in user processes.

Some of those close every one that there may be, and others cannot work with high numbers.
"""

from __future__ import annotations

from resource import RLIMIT_NOFILE, getrlimit, setrlimit

_MANY = 65536
_INHERITED = getrlimit(RLIMIT_NOFILE)


def allow_many() -> None:
    """As far as the system lets this process."""
    soft, hard = _INHERITED
    if _number(soft) < _number(hard):
        setrlimit(RLIMIT_NOFILE, (_number(hard), hard))


def limit() -> int:
    return _number(getrlimit(RLIMIT_NOFILE)[0])


def lower() -> tuple[int, int]:
    """To what this process was started with, for one that it starts now. `restore` what it was."""
    before = getrlimit(RLIMIT_NOFILE)
    if _number(_INHERITED[0]) < _number(before[0]):
        setrlimit(RLIMIT_NOFILE, (_INHERITED[0], before[1]))
    return before


def restore(before: tuple[int, int]) -> None:
    setrlimit(RLIMIT_NOFILE, before)


def _number(value: int) -> int:
    """The system's word for no limit is a number below all others."""
    return min(value, _MANY) if value >= 0 else _MANY
