"""`longshore proxy`: routes HTTP to the sandboxes of one worker, in a process of its own."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

EPILOG = """\b
Examples:
  longshore proxy --config /etc/longshore/worker.yaml     # beside `longshore worker --no-proxy`
"""


@click.command(epilog=EPILOG)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="The worker's YAML file.")
@click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input ends, too.")
def proxy(config: Path | None, *, until_stdin_closes: bool) -> None:
    """Run the proxy of a worker: HTTP to sandboxes, routed by header."""
    # Imported here, so that `longshore --help` does not pay for it.
    from longshore_core._errors import LongshoreError
    from longshore_core._proxy_app import run_proxy
    from longshore_core._settings import WorkerSettings
    from longshore_core.process import config as loading
    from longshore_core.process import logs
    from longshore_core.process.entry import refuse, run_application
    from longshore_core.process.stop import wait_stop

    try:
        settings = loading.load(WorkerSettings, config, os.environ)
        logs.configure(settings.env, os.environ)
    except LongshoreError as exc:
        refuse(exc)
    run_application(run_proxy, settings, partial(wait_stop, when_stdin_closes=until_stdin_closes))
