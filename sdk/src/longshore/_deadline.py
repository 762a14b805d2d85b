"""`with deadline(10):`: until when whatever is done inside must be done."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Final

from longshore._errors import SandboxTimeoutError

_until: Final = ContextVar("longshore_deadline", default=math.inf)


@contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Bound all that the SDK does inside, in this thread or task, by so many seconds from now.

    What is not done by then raises SandboxTimeoutError. Commands that `run` are bound inside the
    sandbox too: none is left behind. Of nested deadlines, the earliest holds.
    """
    token = _until.set(min(_until.get(), monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)


@contextmanager
def cleaning_up(seconds: float) -> Generator[None]:
    """What must be done even though a deadline has passed gets a short one of its own."""
    token = _until.set(monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def remaining() -> float:
    """How many seconds are left, at least 0; without a deadline: infinitely many."""
    return max(0.0, _until.get() - monotonic())


def check_deadline(phase: str, sandbox_id: str | None = None) -> None:
    """Raises SandboxTimeoutError when it has passed."""
    if not remaining():
        message = f"the deadline has passed during {phase}"
        raise SandboxTimeoutError("DEADLINE_EXCEEDED", message, sandbox_id=sandbox_id, phase=phase)
