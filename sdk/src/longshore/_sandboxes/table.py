"""Answers: aligned columns for people, JSON for programs, colour for terminals alone."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import click

from longshore._sandboxes.plain import plain

_COLOURS: Final[Mapping[str, str]] = {
    "running": "green",
    "pending": "yellow",
    "terminated": "bright_black",
}
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def is_colourful(stream: TextIO) -> bool:
    """Whether colours are wanted there: https://no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Each column as wide as its widest cell."""
    lines = [[plain(cell) for cell in line] for line in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    colourful = is_colourful(sys.stdout)
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        cells[-1] = cells[-1].rstrip()
        shown = [painted(cell) for cell in cells] if colourful else cells
        click.echo("   ".join(shown), color=colourful)


def painted(cell: str) -> str:
    """In the colour of what it says, if that has one."""
    colour = _COLOURS.get(cell.rstrip())
    return click.style(cell, fg=colour) if colour else cell


def print_json(value: Any) -> None:
    """Dataclasses as objects, times as in ISO 8601."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: getattr(value, field.name) for field in fields}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{value!r} is nothing that JSON has")


def ago(time: datetime) -> str:
    """How long ago, in one unit: `3m`."""
    return span((datetime.now(UTC) - time).total_seconds())


def span(seconds: float) -> str:
    """In the largest unit of which it is at least two; never less than nothing."""
    for size, unit in _UNITS:
        if seconds >= 2 * size or size == 1:
            return f"{max(0, int(seconds // size))}{unit}"
    raise AssertionError("the last unit takes all")


def size(mebibytes: int) -> str:
    """Of memory or a disk: `512 MiB`, `1.5 GiB`."""
    return f"{mebibytes} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.4g} GiB"
