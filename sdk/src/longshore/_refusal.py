"""How a command says no before it has begun."""

from __future__ import annotations

from typing import IO, Any, Final

import click

CONFIG_STATUS: Final = 2


class Refusal(click.ClickException):
    """The command cannot do what it was asked. The message says what to change; the status is 2."""

    exit_code = CONFIG_STATUS

    def show(self, file: IO[Any] | None = None) -> None:
        """One line on stderr, as for every other error of ours."""
        click.echo(f"error: {self.message}", file=file, err=True)
