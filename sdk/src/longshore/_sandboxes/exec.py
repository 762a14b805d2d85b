"""`longshore sandbox exec`."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypedDict, Unpack

import anyio
import click

from longshore._async_sandbox import AsyncSandbox
from longshore._errors import (
    SandboxError,
    SandboxFileNotFoundError,
    SandboxNotADirectoryError,
)
from longshore._refusal import Refusal
from longshore._sandboxes import attached, console
from longshore._sandboxes.complaint import complain, first
from longshore._sandboxes.options import (
    Place,
    environment,
    environment_option,
    place_options,
    sandbox_argument,
)

FAILED: Final = 125
CANNOT_RUN: Final = 126
NO_SUCH_COMMAND: Final = 127
_ABSENT: Final = (": not found", "No such file or directory")


class How(TypedDict):
    """The options of `exec`."""

    interactive: bool
    tty: bool
    detach: bool
    env: tuple[str, ...]
    workdir: str | None
    timeout: float | None
    name: str | None


@click.command(context_settings={"allow_interspersed_args": False})
@sandbox_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass on what comes from standard input.")
@click.option("-t", "--tty", is_flag=True, help="At a terminal of its own.")
@click.option("-d", "--detach", is_flag=True, help="Print its pid, and leave it running.")
@environment_option
@click.option("-w", "--workdir", metavar="DIR", help="Where it runs.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Kill it then, with all that it has started; the status is 124.",
)
@click.option("--name", metavar="NAME", help="To find it again by.")
@place_options
def command(place: Place, sandbox: str, command: tuple[str, ...], **how: Unpack[How]) -> None:
    """Run a command in a sandbox.

    Its output comes byte for byte, and its status is that of this command; 125 to 127 say that it
    could not be run. Ctrl-C interrupts it, and kills it when pressed again.

    \b
    Examples:
      longshore sandbox exec SANDBOX ls -l /
      longshore sandbox exec -it SANDBOX bash
      tar c . | longshore sandbox exec -i SANDBOX tar x -C /work
      longshore sandbox exec SANDBOX sh -c 'make && make test'
      longshore sandbox exec -d --name web SANDBOX python3 -m http.server 8080
    """
    argv = list(command[1:] if command[0] == "--" else command)
    if not argv:
        raise click.UsageError("Missing argument 'COMMAND...'")
    if how["tty"]:
        _check_terminal(how)
        env = environment(how["env"], dict(os.environ))
        work = partial(at_terminal, argv, env, how["workdir"], interactive=how["interactive"])
    else:
        work = partial(_run, argv, how)
    finish(place, sandbox, partial(_explained, work, how["workdir"]))


def _check_terminal(how: How) -> None:
    """Raises Refusal."""
    if how["interactive"] and not sys.stdin.isatty():
        raise Refusal("-t: standard input is no terminal; for a pipe, -i alone is enough")
    for name in ("detach", "timeout", "name"):
        if how[name]:
            raise Refusal(f"--{name} cannot be had together with -t; leave one of them out")


def finish(place: Place, sandbox: str, work: Callable[[AsyncSandbox], Awaitable[int]]) -> None:
    """Do it, and exit with its status. Raises Exit."""

    async def attached_to() -> int:
        async with AsyncSandbox.attach(sandbox, **place.endpoint) as found:
            return await work(found)

    errors = list[SandboxError]()
    status = 0
    try:
        status = anyio.run(attached_to)
    except* SandboxError as group:
        errors.append(first(group))
    if errors:
        complain(errors[0])
        status = _status_of(errors[0])
    raise click.exceptions.Exit(status)


async def _explained(
    work: Callable[[AsyncSandbox], Awaitable[int]], workdir: str | None, sandbox: AsyncSandbox
) -> int:
    """Do it. That a directory is not there is told apart from a command that is not."""
    try:
        return await work(sandbox)
    except SandboxError as exc:
        if exc.code == "SPAWN_FAILED" and workdir and not await _is_directory(sandbox, workdir):
            exc.message = f"there is no directory {workdir!r} to run it in"
        raise


async def _is_directory(sandbox: AsyncSandbox, path: str) -> bool:
    try:
        return (await sandbox.files.stat(path)).is_dir
    except (SandboxFileNotFoundError, SandboxNotADirectoryError):
        return False
    except SandboxError:
        # Nobody can say; then what was said first holds.
        return True


def _status_of(error: SandboxError) -> int:
    """Apart from whatever a command's own status means, as docker has it."""
    if error.code == "SPAWN_FAILED":
        absent = any(text in error.message for text in _ABSENT)
        return NO_SUCH_COMMAND if absent else CANNOT_RUN
    return FAILED


async def at_terminal(
    argv: list[str] | None,
    env: dict[str, str] | None,
    cwd: str | None,
    sandbox: AsyncSandbox,
    *,
    interactive: bool,
) -> int:
    """At a terminal as large as ours."""
    now = console.size(console.STDOUT)
    opening = sandbox.terminal(argv, columns=now.columns, rows=now.lines, env=env, cwd=cwd)
    async with opening as terminal:
        if not interactive:
            return await attached.attend_terminal(terminal, interactive=False)
        with console.raw(console.STDIN):
            return await attached.attend_terminal(terminal, interactive=True)


async def _run(argv: list[str], how: How, sandbox: AsyncSandbox) -> int:
    opening = sandbox.start(
        argv,
        stdin=how["interactive"],
        env=environment(how["env"], dict(os.environ)),
        cwd=how["workdir"],
        timeout=how["timeout"],
        name=how["name"],
    )
    if how["detach"]:
        click.echo((await opening).pid)
        return 0
    async with opening as process:
        return await attached.attend(process, interactive=how["interactive"])
