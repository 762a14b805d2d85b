"""`longshore sandbox shell`."""

from __future__ import annotations

import os
import sys
from functools import partial

import click

from longshore._refusal import Refusal
from longshore._sandboxes.exec import at_terminal, finish
from longshore._sandboxes.options import (
    Place,
    environment,
    environment_option,
    place_options,
    sandbox_argument,
)


@click.command()
@sandbox_argument
@environment_option
@click.option("-w", "--workdir", metavar="DIR", help="Where it begins.")
@place_options
def command(place: Place, sandbox: str, env: tuple[str, ...], workdir: str | None) -> None:
    """Open a shell in a sandbox: bash if there is one, else sh.

    Its status is that of this command.

    \b
    Examples:
      longshore sandbox shell SANDBOX
      longshore sandbox shell -w /srv -e DEBUG=1 SANDBOX
    """
    if not sys.stdin.isatty():
        raise Refusal("standard input is no terminal; for a script, `exec -i SANDBOX sh`")
    given = environment(env, dict(os.environ))
    finish(place, sandbox, partial(at_terminal, None, given, workdir, interactive=True))
