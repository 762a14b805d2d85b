"""`longshore plugins new`: a distribution of one's own that works from the first minute."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import click

from longshore_core import __version__
from longshore_core._errors import ConfigError
from longshore_core._plugins import catalog

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_PROOF: Final = "      - run: pytest --pyargs longshore_core.conformance --driver=acme"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is particular to one kind of plugin."""

    group: str
    usage: str
    """How a configuration chooses it."""
    note: str
    """What its author should know next."""
    carrier: str = ""
    """What its laws need beside it."""

    def words(self, kind: str) -> Mapping[str, str]:
        return {
            "{kind}": "provider of secrets" if kind == "secrets" else kind,
            "{group}": self.group,
            "{core}": ".".join(__version__.split(".")[:2]),
            "{carrier}": self.carrier,
            "{usage}": self.usage,
            "{note}": self.note,
            "{prove}": _PROOF if kind == "driver" else "",
        }


KINDS: Final[Mapping[str, Kind]] = {
    "driver": Kind(
        group="longshore.drivers",
        usage="driver: {type: acme}\nguest: {type: bare}",
        note="""\
Containers are processes of the host here, kept in memory, and end with the worker. What the driver
declares in its `Facts` must work; the rest is refused by the kernel. Declare more as you go, and
the laws of it are checked: `sockets=True` for a guest that can be spoken with (the usual one,
`sandbox_daemon`), `recovers=True` for containers that outlive the worker. One command proves it:

    pytest --pyargs longshore_core.conformance --driver=acme""",
    ),
    "network": Kind(
        group="longshore.networks",
        usage="network: {type: acme}",
        note="It writes policies down and enforces none: put your rules where `_write` is called.",
    ),
    "registry": Kind(
        group="longshore.registries",
        usage="snapshot_registry: {type: acme, repository: registry.example/snapshots}",
        note="It names snapshots and reads a token; the driver moves the bytes.",
    ),
    "middleware": Kind(
        group="longshore.middlewares",
        usage="http_proxy:\n  middlewares:\n    - {type: acme, key: '${ACME_KEY:-}'}",
        note="A flow must not wait: what asks elsewhere goes into `admit` of the `Layer`.",
    ),
    "guest": Kind(
        group="longshore.guests",
        usage="guest: {type: acme}",
        note="It runs an entrypoint and knows no `dial`: the proxy reaches no port inside yet.",
        carrier=', "longshore-forkexec"',
    ),
    "secrets": Kind(
        group="longshore.secrets",
        usage="secrets: {type: acme, directory: /etc/longshore/secrets}",
        note="A file for each secret, in a directory for each namespace.",
    ),
}


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to. [default: longshore-NAME]",
)
def new(kind: str, name: str, directory: Path | None) -> None:
    """Write a plugin of your own: a distribution that works, with its tests and CI."""
    _check(kind, name)
    target = directory or Path(f"longshore-{name.replace('_', '-')}")
    try:
        if target.exists() and any(target.iterdir()):
            raise ConfigError("", f"{target} is not empty; choose another place with --dir")
        for file, text in render(kind, name):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).write_text(text, encoding="utf-8")
            click.echo(str(target / file))
    except OSError as exc:
        raise ConfigError("", f"cannot write {target}: {exc.strerror}") from exc
    click.echo(f"\nnext: cd {target} && pip install -e '.[test]' && pytest")


def render(kind: str, name: str) -> Iterator[tuple[Path, str]]:
    """Every file of a new plugin, with its place."""
    place = resources.files("longshore_core") / "_templates"
    own_tests = place / kind / "test_plugin.py"
    files = {
        "pyproject.toml": place / "pyproject.toml.in",
        "README.md": place / "README.md.in",
        f"longshore_{name}.py": place / kind / "plugin.py",
        f"tests/test_{name}.py": own_tests if own_tests.is_file() else place / "test_plugin.py",
        ".github/workflows/ci.yml": place / "ci.yml.in",
    }
    for target, template in files.items():
        text = template.read_text(encoding="utf-8")
        if template.name == "test_plugin.py":
            text = text.replace("DRIVER_LAWS", f"{kind.upper()}_LAWS")
            text = text.replace('kind="driver"', f'kind="{kind}"').replace("driver", kind)
        for word, meaning in KINDS[kind].words(kind).items():
            text = text.replace(word, meaning)
        yield Path(target), _named(text, name).rstrip() + "\n"


def _named(text: str, name: str) -> str:
    """The text, with its own name in place of the templates'."""
    spoken = {
        "longshore-acme": f"longshore-{name.replace('_', '-')}",
        "x-acme": f"x-{name.replace('_', '-')}",
        "X-Acme": "X-" + "-".join(part.capitalize() for part in name.split("_")),
        "Acme": "".join(part.capitalize() for part in name.split("_")),
        "ACME": name.upper(),
        "acme": name,
    }
    for word, own in spoken.items():
        text = text.replace(word, own)
    return text


def _check(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            "", f"{name!r} cannot name a plugin: use lower-case words, joined by single underscores"
        )
    for other in catalog.installed([KINDS[kind].group]):
        if other.name == name:
            raise ConfigError(
                "", f"there is a {kind} named {name!r} already, in {other.provenance}"
            )
