"""What all commands take: where the server is, which sandbox is meant, how to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec

import click
from click.shell_completion import CompletionItem

from longshore._calls import named_in_environment
from longshore._deadline import deadline
from longshore._errors import SandboxError
from longshore._local import running_api
from longshore._model import Endpoint
from longshore._refusal import Refusal
from longshore._sandbox import Sandbox
from longshore._sandboxes.plain import plain

ParametersT = ParamSpec("ParametersT")
_COMPLETION_SECONDS: Final = 1.0
_MOST_COMPLETIONS: Final = 100
_KEY_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The server, as the command line and the surroundings name it."""

    endpoint: Endpoint = field(repr=False)


def place_options(
    function: Callable[Concatenate[Place, ParametersT], None],
) -> Callable[..., None]:
    """`--api-url`, `--api-key-file` and `--namespace`, given to the function as its first."""

    @click.option("--api-url", metavar="URL", help="The server.  [env: LONGSHORE_API_URL]")
    @click.option(
        "--api-key-file",
        type=click.File("r"),
        metavar="FILE",
        help="A file with the API key, - for standard input.  [env: LONGSHORE_API_KEY]",
    )
    @click.option(
        "-n", "--namespace", metavar="NAME", help="The namespace.  [env: LONGSHORE_NAMESPACE]"
    )
    @wraps(function)
    def placed(*args: ParametersT.args, **kwargs: ParametersT.kwargs) -> None:
        given: dict[str, Any] = kwargs
        function(_place(given), *args, **kwargs)

    return placed


def _place(given: dict[str, Any]) -> Place:
    """Raises Refusal."""
    url, file, namespace = (given.pop(name) for name in ("api_url", "api_key_file", "namespace"))
    endpoint = Endpoint()
    if url := url or (None if named_in_environment() else running_api(Path.cwd())):
        endpoint["api_url"] = url
    if file is not None:
        key = file.read(_KEY_BYTES).strip()
        if not key or not (key.isascii() and key.isprintable()):
            raise Refusal(f"{file.name} has no API key: one line of ASCII is wanted")
        endpoint["api_key"] = key
    if namespace is not None:
        endpoint["namespace"] = namespace
    return Place(endpoint=endpoint)


def complete_sandbox(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The running sandboxes, by name or id; none when the server does not answer at once."""
    del parameter
    known = {name: context.params.get(name) for name in ("api_url", "api_key_file", "namespace")}
    found = list[CompletionItem]()
    try:
        with deadline(_COMPLETION_SECONDS):
            for info in Sandbox.list(status="running", **_place(known).endpoint):
                for known_as in filter(None, (info.name, info.id)):
                    if known_as.startswith(incomplete):
                        found.append(CompletionItem(known_as, help=plain(info.image)))
                        break
                if len(found) == _MOST_COMPLETIONS:
                    break
    except (SandboxError, Refusal, ValueError):
        # Nobody wants to read of it while typing; the command itself will say so.
        return found
    return found


sandbox_argument = click.argument("sandbox", metavar="SANDBOX", shell_complete=complete_sandbox)


environment_option = click.option(
    "-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set it, or pass on yours."
)


def output_option(*choices: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`-o`; the first of the choices unless told otherwise."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="How to answer.",
    )


def environment(given: Sequence[str], surroundings: dict[str, str]) -> dict[str, str] | None:
    """`NAME=VALUE`, or `NAME` alone to pass on one's own. Raises Refusal."""
    found = dict[str, str]()
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name:
            raise Refusal(f"-e {pair!r}: NAME=VALUE is wanted")
        if equals:
            found[name] = value
        elif name in surroundings:
            found[name] = surroundings[name]
    return found or None
