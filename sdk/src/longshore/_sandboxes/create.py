"""`longshore sandbox create`."""

from __future__ import annotations

from typing import Any, cast

import click

from longshore._model import CreateOptions
from longshore._sandbox import Sandbox
from longshore._sandboxes.options import Place, output_option, place_options
from longshore._sandboxes.table import print_json


@click.command(context_settings={"allow_interspersed_args": True})
@click.argument("image", required=False)
@click.argument("entrypoint", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--cpus", type=click.FloatRange(min=0, min_open=True), metavar="CORES", help="[default: 1]"
)
@click.option(
    "--memory", "memory_mb", type=click.IntRange(1), metavar="MIB", help="[default: 1024]"
)
@click.option("--disk", "disk_mb", type=click.IntRange(1), metavar="MIB", help="[default: 1024]")
@click.option(
    "--lifetime",
    "lifetime_seconds",
    type=click.IntRange(0),
    metavar="SECONDS",
    help="When it ends by itself; 0: never.  [default: 600]",
)
@click.option(
    "--secret",
    "secret_names",
    multiple=True,
    metavar="NAME",
    help="It gets this one; may be repeated.",
)
@click.option("--no-internet", is_flag=True, help="No connections but those that are allowed.")
@click.option("--allow-out", multiple=True, metavar="CIDR", help="It may reach this network.")
@click.option("--deny-out", multiple=True, metavar="CIDR", help="It may not reach this network.")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long it may take to run.  [default: 300]",
)
@click.option("--idempotency-key", metavar="KEY", help="The same key answers with the same one.")
@output_option("id", "json")
@place_options
def command(
    place: Place, /, image: str | None, output: str, no_internet: bool, **asked: Any
) -> None:
    """Create a sandbox, and wait until it runs.

    Prints its id. IMAGE is the server's default unless named; what follows it is the program that
    the sandbox starts with.

    \b
    Examples:
      longshore sandbox create
      longshore sandbox create python:3.14-slim --memory 2048 --lifetime 3600
      longshore sandbox create --no-internet --allow-out 10.0.0.0/8
      longshore sandbox create node:24 -- npm start
      id=$(longshore sandbox create) && longshore sandbox shell $id
    """
    options = {name: value for name, value in asked.items() if value not in (None, ())}
    if no_internet:
        options["allow_internet_access"] = False
    made = Sandbox.create(image, **cast("CreateOptions", {**place.endpoint, **options}))
    try:
        if output == "json":
            print_json(made.info())
        else:
            click.echo(made.id)
    finally:
        made.detach()
