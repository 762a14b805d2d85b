"""Sub-commands, found by entry point and imported only when they are invoked.

Any installed distribution adds one under the group `longshore.commands`; its value names a
`click.Command`. `--help` imports none of them: our own one-liners are in the table below, and a
third party's is its distribution's summary.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Final

import click
from click.shell_completion import CompletionItem

from longshore import __version__
from longshore._refusal import Refusal

GROUP: Final = "longshore.commands"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One of our own sub-commands: what it is for, and the extra that brings it."""

    help: str
    extra: str | None


KNOWN: Final[Mapping[str, Known]] = MappingProxyType(
    {
        "up": Known(help="Run the whole local system until Ctrl-C.", extra=None),
        "sandbox": Known(help="Create, use and remove sandboxes.", extra=None),
        "worker": Known(help="Run sandboxes and functions on this host.", extra="worker"),
        "proxy": Known(help="Route HTTP to the sandboxes of this host.", extra="worker"),
        "server": Known(help="Run the control plane: HTTP API, gRPC, scheduler.", extra="server"),
        "doctor": Known(help="Say what this host can do, and what the rest needs.", extra="worker"),
        "plugins": Known(help="List what is installed, and whether it works.", extra="worker"),
        "config": Known(help="Check a configuration, or show the resolved one.", extra="worker"),
    }
)


class EntryPointGroup(click.Group):
    """A click group whose members are the entry points of `longshore.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Ours in the order of the table, then everybody else's by name."""
        names = {entry.name for entry in metadata.entry_points(group=GROUP)}
        return [name for name in KNOWN if name in names] + sorted(names - KNOWN.keys())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one sub-command. Raises Refusal for two claims, and for a broken one."""
        claims = list(metadata.entry_points(group=GROUP, name=cmd_name))
        if not claims:
            return None
        if len(claims) > 1:
            both = " and ".join(sorted(_provenance(claim) for claim in claims))
            raise Refusal(f"{cmd_name}: claimed by both {both}; uninstall one of them")
        (entry,) = claims
        try:
            command: object = entry.load()
        except Exception as exc:  # anything may happen in a third party's module
            where = f"{entry.value} of {_provenance(entry)}"
            what = (
                "" if isinstance(exc, ImportError | AttributeError) else f"{type(exc).__name__}: "
            )
            raise Refusal(f"{cmd_name}: cannot import {where}: {what}{exc}") from exc
        if not isinstance(command, click.Command):
            kind = type(command).__name__
            message = f"{cmd_name}: {entry.value} of {_provenance(entry)} is a {kind}"
            raise Refusal(f"{message}, not a click.Command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but a name that is not there gets a hint that helps."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            raise Refusal(_missing(name, self.list_commands(ctx)))
        return name, command, args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names of sub-commands, without importing any of them."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=_one_line(name)) for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of sub-commands, without importing any of them."""
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, _one_line(name)) for name in names])
        absent = [name for name in KNOWN if name not in names]
        if absent:
            with formatter.section("Not installed"):
                formatter.write_dl([(name, _install(name)) for name in absent])


@click.group(cls=EntryPointGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="longshore", message="%(prog)s %(version)s")
def longshore() -> None:
    """Run untrusted code in sandboxes on your own machines."""


def invoke(words: Sequence[str]) -> int:
    """Run the command line `words`; click's own complaints are shown, the rest passes."""
    try:
        status: object = longshore.main(list(words), prog_name="longshore", standalone_mode=False)
    except click.UsageError as exc:
        place = f"; see `{exc.ctx.command_path} --help`" if exc.ctx else ""
        click.echo(f"error: {_first_small(exc.format_message())}{place}", err=True)
        return exc.exit_code
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.Abort:
        # click's word for Ctrl-C at a prompt; inside a command it hides the KeyboardInterrupt.
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0


def _first_small(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip().removesuffix(".")


def _missing(name: str, installed: Sequence[str]) -> str:
    if name in KNOWN:
        return f"{name}: this command is not installed; {_install(name)}"
    close = difflib.get_close_matches(name, [*installed, *KNOWN], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f" (there are: {', '.join(installed)})"
    return f"no command named {name!r}{hint}"


def _install(name: str) -> str:
    extra = KNOWN[name].extra
    return f'pip install "longshore{f"[{extra}]" if extra else ""}"'


def _one_line(name: str) -> str:
    if name in KNOWN:
        return KNOWN[name].help
    (entry, *others) = metadata.entry_points(group=GROUP, name=name)
    if others:
        return "claimed by several distributions; uninstall all but one"
    described = entry.dist is not None and "Summary" in entry.dist.metadata
    summary = f"{entry.dist.metadata['Summary']} " if entry.dist and described else ""
    return f"{summary}({_provenance(entry)})"


def _provenance(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.metadata['Name']} {entry.dist.version}" if entry.dist else "?"
