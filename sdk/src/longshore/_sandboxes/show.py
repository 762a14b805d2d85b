"""`longshore sandbox show`."""

from __future__ import annotations

import shlex
import sys
from typing import Final

import click

from longshore._errors import SandboxError
from longshore._model import ProcessInfo, SandboxInfo
from longshore._sandbox import Sandbox
from longshore._sandboxes.options import Place, output_option, place_options, sandbox_argument
from longshore._sandboxes.plain import plain
from longshore._sandboxes.table import (
    ago,
    is_colourful,
    painted,
    print_json,
    print_table,
    size,
    span,
)

_HEADS: Final = ("PID", "NAME", "STATUS", "AGE", "COMMAND")


@click.command()
@sandbox_argument
@output_option("text", "json")
@place_options
def command(place: Place, sandbox: str, output: str) -> None:
    """Show all about one sandbox, and its processes while it runs.

    \b
    Examples:
      longshore sandbox show SANDBOX
      longshore sandbox show SANDBOX -o json | jq -r .sandbox.sandbox_url
    """
    info = Sandbox.get(sandbox, **place.endpoint)
    processes = _processes(place, info)
    if output == "json":
        print_json({"sandbox": info, "processes": processes})
        return
    for name, value in _lines(info).items():
        if value:
            shown = plain(value)
            click.echo(f"{name:<10} {painted(shown) if is_colourful(sys.stdout) else shown}")
    if processes:
        click.echo()
        print_table(_HEADS, [_row(process) for process in processes])


def _processes(place: Place, info: SandboxInfo) -> tuple[ProcessInfo, ...]:
    if info.status != "running":
        return ()
    try:
        with Sandbox.attach(info.id, **place.endpoint) as attached:
            return attached.processes()
    except SandboxError as exc:
        # All that the server knows is still worth showing.
        click.echo(plain(f"warning: its processes are not known: {exc.message}"), err=True)
        return ()


def _lines(info: SandboxInfo) -> dict[str, str | None]:
    ended = info.terminated_at
    lifetime = span(info.lifetime_seconds) if info.lifetime_seconds else "until it is removed"
    exit_code = None if info.exit_code is None else str(info.exit_code)
    return {
        "id": info.id,
        "name": info.name,
        "status": info.status,
        "image": info.image,
        "namespace": info.namespace,
        "created": f"{info.created_at:%Y-%m-%d %H:%M:%S} UTC, {ago(info.created_at)} ago",
        "lifetime": lifetime,
        "cpus": f"{info.cpus:g}",
        "memory": size(info.memory_mb),
        "disk": size(info.disk_mb),
        "proxy": info.sandbox_url,
        "pending": info.pending_reason,
        "ended": None if ended is None else f"{ended:%Y-%m-%d %H:%M:%S} UTC, {ago(ended)} ago",
        "outcome": info.outcome,
        "error": info.error,
        "exit code": exit_code,
    }


def _row(process: ProcessInfo) -> tuple[str, ...]:
    how = "running" if process.running else f"exited ({process.exit_code})"
    shown = shlex.join(process.command)
    return (
        str(process.pid),
        process.name or "-",
        how,
        ago(process.started_at),
        shown if len(shown) <= 60 else f"{shown[:59]}…",
    )
