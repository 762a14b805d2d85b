"""A third party's sub-command of `longshore`."""

import click


@click.command()
def command() -> None:
    """Say hello."""
    click.echo("hello from acme")
