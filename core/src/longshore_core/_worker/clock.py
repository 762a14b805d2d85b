"""The time by which deadlines are kept: nobody who sets the host's clock ends a sandbox early, or
late.

Deadlines outlive the worker, so that they are kept in seconds since the epoch. But these are read
once in each boot of the host, and counted on from there: also by the next worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from longshore_core._errors import ConfigError

_FILE: Final = "clock.json"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/timens_offsets")


class _Anchor(BaseModel, extra="forbid", frozen=True):
    boot: str
    """And the time namespace, which has a clock of its own."""
    offset: float
    """From the seconds of this boot to those since the epoch."""


def steady_clock(state_dir: Path, boot: Path = _BOOT) -> Callable[[], float]:
    """Seconds since the epoch, as the first worker of this boot has read them, and as many more as
    have passed since. Time in which the host sleeps has passed, too (CLOCK_BOOTTIME).

    Raises ConfigError when `state_dir` cannot be written to.
    """
    here, kept = _boot_id(boot), state_dir / _FILE
    anchor = _remembered(kept)
    if anchor is None or not here or anchor.boot != here:
        anchor = _Anchor(boot=here, offset=time.time() - _passed())
        _remember(kept, anchor)
    offset = anchor.offset
    return lambda: offset + _passed()


def _passed() -> float:
    """Seconds of this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id(path: Path) -> str:
    try:
        boot = path.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # then each worker reads the clock anew
    try:
        offsets = _NAMESPACE.read_text(encoding="ascii").split()
    except OSError:
        return boot  # of a kernel without such namespaces
    return " ".join((boot, *offsets))


def _remembered(path: Path) -> _Anchor | None:
    try:
        return _Anchor.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _remember(path: Path, anchor: _Anchor) -> None:
    draft = path.with_suffix(".new")
    try:
        draft.write_text(anchor.model_dump_json(), encoding="utf-8")
        draft.replace(path)
    except OSError as exc:
        message = f"cannot write {path}: {exc.strerror}; make room, or choose another directory"
        raise ConfigError("state_dir", message) from exc
