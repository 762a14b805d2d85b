"""`longshore worker`: one worker, for one server."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

EPILOG = """\b
Examples:
  longshore worker                                  # defaults: server at localhost:8901
  longshore worker --config /etc/longshore/worker.yaml
"""


@click.command(epilog=EPILOG)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="YAML file; see the docs.")
@click.option(
    "-f",
    "--function",
    "functions",
    multiple=True,
    metavar="NS:APP:FN[:VERSION]",
    help="Take only these functions; in place of the config's allowlist.",
)
@click.option("--no-proxy", is_flag=True, help="Somebody else runs `longshore proxy`.")
@click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input ends, too.")
def worker(
    config: Path | None, functions: tuple[str, ...], *, no_proxy: bool, until_stdin_closes: bool
) -> None:
    """Run a worker: sandboxes on this host, on behalf of a server."""
    # Imported here, so that `longshore --help` does not pay for a worker.
    from longshore_core._app import WorkerRun, run_worker
    from longshore_core._errors import LongshoreError
    from longshore_core._settings import WorkerSettings
    from longshore_core.process import config as loading
    from longshore_core.process import logs
    from longshore_core.process.entry import refuse, run_application
    from longshore_core.process.stop import wait_stop

    try:
        settings = loading.load(WorkerSettings, config, os.environ)
        if functions:
            allowlist = {"function_allowlist": list(functions)}
            settings = loading.validate(
                WorkerSettings, settings.model_dump(exclude_unset=True) | allowlist
            )
        logs.configure(settings.env, os.environ)
    except LongshoreError as exc:
        refuse(exc)
    run = WorkerRun(
        settings=settings,
        stop=partial(wait_stop, when_stdin_closes=until_stdin_closes),
        config_file=config,
        with_proxy=not no_proxy,
    )
    run_application(run_worker, run)
