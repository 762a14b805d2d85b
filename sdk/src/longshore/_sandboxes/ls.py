"""`longshore sandbox ls`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import click

from longshore._model import SandboxInfo, Status
from longshore._sandbox import Sandbox
from longshore._sandboxes.options import Place, output_option, place_options
from longshore._sandboxes.table import ago, print_json, print_table, size, span

_ALIVE: Final[tuple[Status, ...]] = ("pending", "running")
_HEADS: Final = ("SANDBOX", "STATUS", "IMAGE", "AGE", "ENDS IN", "CPUS", "MEMORY")
_WIDE: Final = ("DISK", "URL", "OUTCOME")


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that have ended, too.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The newest N.")
@output_option("table", "wide", "json")
@place_options
def command(place: Place, everything: bool, quiet: bool, limit: int | None, output: str) -> None:
    """List sandboxes, the newest first.

    \b
    Examples:
      longshore sandbox ls
      longshore sandbox ls --all -o wide
      longshore sandbox ls -o json | jq -r '.[].image'
      longshore sandbox rm $(longshore sandbox ls -q)
    """
    found = _found(place, everything, limit)
    if quiet:
        for info in found:
            click.echo(info.id)
    elif output == "json":
        print_json(found)
    else:
        wide = output == "wide"
        rows = [_row(info, wide) for info in found]
        print_table(_HEADS + _WIDE if wide else _HEADS, rows)
        if not rows and sys.stdout.isatty():
            click.echo("None yet; make one with `longshore sandbox create`", err=True)


def _found(place: Place, everything: bool, limit: int | None) -> list[SandboxInfo]:
    if everything:
        return list(islice(Sandbox.list(**place.endpoint), limit))
    found = list[SandboxInfo]()
    for status in _ALIVE:
        found += islice(Sandbox.list(status=status, **place.endpoint), limit)
    return sorted(found, key=lambda info: info.created_at, reverse=True)[:limit]


def _row(info: SandboxInfo, wide: bool) -> tuple[str, ...]:
    cpus, memory = f"{info.cpus:g}", size(info.memory_mb)
    row = (info.id, info.status, info.image, ago(info.created_at), _ends(info), cpus, memory)
    return (*row, size(info.disk_mb), info.sandbox_url or "-", _why(info)) if wide else row


def _ends(info: SandboxInfo) -> str:
    if info.status == "terminated" or not info.lifetime_seconds:
        return "-"
    lived = (datetime.now(UTC) - info.created_at).total_seconds()
    return span(info.lifetime_seconds - lived)


def _why(info: SandboxInfo) -> str:
    return info.outcome or info.pending_reason or "-"
