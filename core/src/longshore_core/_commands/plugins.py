"""`longshore plugins`: what is installed, what a configuration uses of it, whether it works.

`longshore plugins new` writes one more: `_commands.scaffold`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from longshore_core._commands.scaffold import new
from longshore_core._commands.tables import output_option, show
from longshore_core._errors import LongshoreError
from longshore_core._plugins import catalog, hooks
from longshore_core._plugins.catalog import Installed
from longshore_core._settings import WorkerSettings
from longshore_core.process import config

COMMANDS: Final = "longshore.commands"
SEAMS: Final = {seam.group: seam for seam in hooks.SEAMS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A plugin that a configuration names, and where."""

    group: str
    name: str
    path: str


@click.group(invoke_without_command=True)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="The worker's YAML. Without one: the defaults.",
)
@click.option("--all", "everything", is_flag=True, help="Import and check the unused ones too.")
@output_option
@click.pass_context
def plugins(context: click.Context, file: Path | None, everything: bool, output: str) -> None:
    """List what is installed, and whether it works.

    Only what the configuration names is imported; the rest is `unused`.
    """
    if context.invoked_subcommand is not None:
        return
    settings = config.load(WorkerSettings, file, os.environ)
    rows = [*_rows(list(uses(settings)), everything=everything)]
    show(rows, output)


plugins.add_command(new)


def uses(settings: WorkerSettings) -> Iterator[Use]:
    """Every plugin that the settings name, with the YAML path that names it."""
    chosen = "sandbox_driver" if settings.sandbox_driver else "driver"
    yield Use(group="longshore.drivers", name=settings.sandboxes.type, path=f"{chosen}.type")
    if settings.function_driver:
        name = settings.function_driver.type
        yield Use(group="longshore.drivers", name=name, path="function_driver.type")
    yield Use(group="longshore.guests", name=settings.guest.type, path="guest.type")
    yield Use(group="longshore.networks", name=settings.network.type, path="network.type")
    yield Use(group="longshore.secrets", name=settings.secrets.type, path="secrets.type")
    if settings.snapshot_registry:
        name = settings.snapshot_registry.type
        yield Use(group="longshore.registries", name=name, path="snapshot_registry.type")
    for index, choice in enumerate(settings.http_proxy.middlewares):
        path = f"http_proxy.middlewares.{index}.type"
        yield Use(group="longshore.middlewares", name=choice.type, path=path)
    for index, name in enumerate(settings.admission):
        yield Use(group=hooks.ADMISSIONS, name=name, path=f"admission.{index}")


def _rows(used: list[Use], *, everything: bool) -> Iterator[Mapping[str, str]]:
    paths = {(use.group, use.name): use.path for use in used}
    offers = catalog.installed()
    for offer in offers:
        path = paths.get((offer.group, offer.name))
        if offer.group == COMMANDS:
            yield _row(offer, state="command")
        elif path is None and not everything:
            yield _row(offer, state="unused")
        else:
            yield _checked(offer, path)
    there = {(offer.group, offer.name) for offer in offers}
    for (group, name), path in paths.items():
        if (group, name) not in there:
            absent = Installed(group=group, name=name, value="", distribution="-", version="-")
            yield _row(absent, state="broken", detail=f"not installed, but named at {path}")


def _checked(offer: Installed, path: str | None) -> Mapping[str, str]:
    try:
        api = _api(offer, path)
    except LongshoreError as exc:
        return _row(offer, state="broken", detail=_reason(exc, offer))
    return _row(offer, api=api, state="ok", detail=f"used at {path}" if path else "unused")


def _reason(error: LongshoreError, offer: Installed) -> str:
    """The message, less the name that the row has already."""
    text = str(error)
    for name in (offer.label, offer.name):
        text = text.removeprefix(f"plugin {name}: ")
    return text


def _api(offer: Installed, path: str | None) -> str:
    """The API that a plugin asks for. Raises whatever a worker's start would raise."""
    seam = SEAMS.get(offer.group)
    if seam is None:
        hooks.admission([offer.name], [])
        return "-"
    selected = hooks.select(seam, offer.name, path)
    return ".".join(map(str, selected.plug.api))


def _row(offer: Installed, *, state: str, api: str = "-", detail: str = "") -> Mapping[str, str]:
    return {
        "group": offer.group.removeprefix("longshore."),
        "name": offer.name,
        "distribution": offer.distribution,
        "version": offer.version,
        "api": api,
        "state": state,
        "detail": detail,
    }
