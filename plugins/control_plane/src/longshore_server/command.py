"""`longshore server`."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import anyio
import click
from longshore_core.process.entry import run_application


@click.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="YAML; without it, the defaults of a local system.",
)
@click.option(
    "--until-stdin-closes", is_flag=True, help="Stop, too, when standard input comes to its end."
)
def server(file: Path | None, until_stdin_closes: bool) -> None:
    """Run the control plane: HTTP for callers, gRPC for workers."""
    run_application(_run, file, until_stdin_closes)


async def _run(file: Path | None, until_stdin_closes: bool) -> None:
    # Only now, so that `longshore --help` does not import a web framework; and without collecting
    # garbage, of which imports make none: a tenth of the start went into looking for it.
    gc.disable()
    from longshore_core.process import config, logs

    from longshore_server.app import serve
    from longshore_server.settings import ServerSettings

    gc.freeze()
    gc.enable()
    settings = config.load(ServerSettings, file, os.environ)
    logs.configure(settings.env, os.environ)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_when_asked, tasks.cancel_scope, until_stdin_closes)
        await serve(settings)


async def _stop_when_asked(scope: anyio.CancelScope, when_stdin_closes: bool) -> None:
    from longshore_core.process.stop import wait_stop

    await wait_stop(when_stdin_closes=when_stdin_closes)
    scope.cancel()
