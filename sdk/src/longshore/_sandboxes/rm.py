"""`longshore sandbox rm`."""

from __future__ import annotations

import click

from longshore._errors import SandboxError, SandboxNotFoundError
from longshore._sandbox import Sandbox
from longshore._sandboxes.complaint import complain, status_of
from longshore._sandboxes.options import Place, complete_sandbox, place_options


@click.command()
@click.argument("sandboxes", metavar="SANDBOX...", nargs=-1, shell_complete=complete_sandbox)
@click.option("-f", "--force", is_flag=True, help="One that there is not is no error, nor is none.")
@place_options
def command(place: Place, sandboxes: tuple[str, ...], force: bool) -> None:
    """End sandboxes, and print the id of each that has ended.

    \b
    Examples:
      longshore sandbox rm SANDBOX
      longshore sandbox rm -f $(longshore sandbox ls -q)
    """
    if not sandboxes and not force:
        raise click.UsageError("Missing argument 'SANDBOX...'")
    status = 0
    for sandbox in sandboxes:
        try:
            Sandbox.delete(sandbox, **place.endpoint)
        except SandboxNotFoundError as exc:
            if not force:
                status = max(status, status_of(exc))
                complain(exc)
        except SandboxError as exc:
            # The others may be ended all the same.
            status = max(status, status_of(exc))
            complain(exc)
        else:
            click.echo(sandbox)
    raise click.exceptions.Exit(status)
