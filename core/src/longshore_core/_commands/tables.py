"""Answers for people as aligned columns, and for programs as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import click

FunctionT = TypeVar("FunctionT", bound=Callable[..., None])

COLOURS: Final = {"ok": "green", "broken": "red", "failed": "red", "absent": "yellow"}


def output_option(function: FunctionT) -> FunctionT:
    """`-o text|json`, for commands whose answer is a list of things."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json: the same, for programs.",
    )
    return option(function)


def show(rows: Sequence[Mapping[str, str]], output: str) -> None:
    """Print rows that all have the same keys; a verdict is coloured on a terminal."""
    if output == "json":
        click.echo(json.dumps([dict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    if not rows:
        return
    heads = {key: key.upper() for key in rows[0]}
    lines = [heads, *rows]
    widths = {key: max(len(line[key]) for line in lines) for key in heads}
    for line in lines:
        cells = [_cell(line[key], widths[key]) for key in heads]
        click.echo("  ".join(cells).rstrip())


def _cell(text: str, width: int) -> str:
    padded = text.ljust(width)
    return click.style(padded, fg=COLOURS.get(text)) if sys.stdout.isatty() else padded
