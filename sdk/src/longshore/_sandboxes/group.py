"""The group: it knows its commands by name, and what an error means to whoever typed one."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, cast

import click
from click.shell_completion import CompletionItem

from longshore._errors import SandboxError
from longshore._refusal import Refusal
from longshore._sandboxes.complaint import complain, first, refused, status_of

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "create": "Create a sandbox, and wait until it runs.",
        "ls": "List sandboxes, the newest first.",
        "show": "Show all about one sandbox, and its processes while it runs.",
        "rm": "End sandboxes, and print the id of each that has ended.",
        "exec": "Run a command in a sandbox.",
        "shell": "Open a shell in a sandbox: bash if there is one, else sh.",
        "cp": "Copy files and directories into a sandbox, or out of it.",
        "logs": "Show what the processes of a sandbox have written.",
        "port": "Forward ports of this machine to those of a sandbox, until Ctrl-C.",
    }
)
"""Each with what it says of itself: `--help` imports none of them."""


class SandboxGroup(click.Group):
    """Commands are imported by name; an error of theirs is one line, and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"longshore._sandboxes.{cmd_name}")
        return cast("click.Command", module.command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but a name that is not there gets a hint that helps."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(COMMANDS)}"
            raise Refusal(f"no command named {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [
            CompletionItem(name, help=what)
            for name, what in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Raises Exit, Refusal."""
        errors, refusals = list[SandboxError](), list[Refusal]()
        try:
            return super().invoke(ctx)
        except* SandboxError as group:
            errors.append(first(group))
        except* ValueError as group:
            refusals.append(refused(group))
        # Not from within: whatever is raised there comes in a group again.
        for refusal in refusals:
            raise refusal
        complain(errors[0])
        raise click.exceptions.Exit(status_of(errors[0]))


@click.group(cls=SandboxGroup)
def sandbox() -> None:
    """Create, use and remove sandboxes.

    The server is named by --api-url, by LONGSHORE_API_URL, or is the one that `longshore up` runs
    in this directory or above; else it is asked for at http://127.0.0.1:8900.

    \b
    Examples:
      longshore sandbox create python:3.14-slim
      longshore sandbox exec -it SANDBOX bash
      longshore sandbox cp ./project SANDBOX:project
      longshore sandbox rm SANDBOX
    """
