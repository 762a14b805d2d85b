"""How far a copy has come: one line, on a terminal only, and gone at the end."""

from __future__ import annotations

import shutil
import sys
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Final, Self

from longshore._sandboxes.table import span

_EVERY_SECONDS: Final = 0.1
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_CLEAR: Final = "\r\x1b[K"
_BAR: Final = 24


class Progress:
    """Shown after a moment, so that what is done at once shows nothing."""

    def __init__(self, name: str, total: int | None, *, quiet: bool) -> None:
        self._name = name
        self._total = total
        self._visible = not quiet and sys.stderr.isatty()
        self._began = monotonic()
        self._shown = self._began
        self._done = 0
        self._lock = Lock()

    def advance(self, size: int) -> None:
        """So many bytes more have passed. From any thread."""
        with self._lock:
            self._done += size
            now = monotonic()
            if self._visible and now - self._shown >= _EVERY_SECONDS:
                self._shown = now
                sys.stderr.write(_CLEAR + self._line(now)[: shutil.get_terminal_size().columns - 1])
                sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._visible:
            return
        sys.stderr.write(_CLEAR)
        if error is None:
            seconds = monotonic() - self._began
            sys.stderr.write(f"{self._name}: {amount(self._done)} in {seconds:.1f} s\n")
        sys.stderr.flush()

    def _line(self, now: float) -> str:
        seconds = now - self._began
        rate = self._done / seconds
        shown = f"{amount(self._done)}  {amount(rate)}/s"
        if not self._total:
            return f"{self._name}  {shown}"
        part = min(1.0, self._done / self._total)
        bar = "━" * round(part * _BAR)
        left = span((self._total - self._done) / rate)
        return f"{self._name}  {bar:<{_BAR}} {part:4.0%}  {shown}  {left} left"


def amount(size: float) -> str:
    """Bytes, in a unit that leaves few digits."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the last unit takes all")
