"""`longshore config`: whether a configuration can be used, and what comes out of it."""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import click
from pydantic import BaseModel
from ruamel.yaml import YAML

from longshore_core._commands.plugins import SEAMS, uses
from longshore_core._errors import ConfigError
from longshore_core._plugins import hooks
from longshore_core._settings import Choice, WorkerSettings
from longshore_core.process import config as loading

SERVER: Final = "server"


@click.group()
def config() -> None:
    """Check a configuration, or show the resolved one."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--server", is_flag=True, help="FILE is the server's, not the worker's.")
def check(file: Path, server: bool) -> None:
    """Check FILE as a start would, plugins included; print the resolved configuration.

    Secrets are not shown. Exits with 2, and the place of each error, when it cannot be used.
    """
    settings = loading.load(_model(server), file, os.environ)
    if isinstance(settings, WorkerSettings):
        check_plugins(settings)
    _print(settings)


@config.command("show")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="The YAML. Without one: the defaults."
)
@click.option("--server", is_flag=True, help="The server's configuration, not the worker's.")
def show_config(file: Path | None, server: bool) -> None:
    """Print the resolved configuration: the file's keys, variables and all defaults."""
    _print(loading.load(_model(server), file, os.environ))


def check_plugins(settings: WorkerSettings) -> None:
    """Check that every plugin which the settings name exists, keeps its seam's contract and takes
    its section. Raises ConfigError or PluginError for the first that does not."""
    for use in uses(settings):
        seam = SEAMS.get(use.group)
        if seam is None:
            hooks.admission([use.name], [])
            continue
        selected = hooks.select(seam, use.name, use.path)
        at: list[int | str] = [
            int(step) if step.isdigit() else step for step in use.path.split(".")[:-1]
        ]
        loading.validate(selected.plug.config, _options(settings, at), at=tuple(at))


def _options(settings: WorkerSettings, at: list[int | str]) -> dict[str, Any]:
    """The section at a path, less `type`; the section of a default is empty."""
    section: Any = settings
    for step in at:
        section = section[step] if isinstance(step, int) else getattr(section, step)
    return section.options if isinstance(section, Choice) else {}


def _model(server: bool) -> type[BaseModel]:
    return _settings_of(SERVER) if server else WorkerSettings


def _settings_of(application: str) -> type[BaseModel]:
    """The settings of another application: `XSettings` in the module `settings` of the package
    that its command `x` comes from. So core can show them and knows nothing of the application.
    """
    entries = list(metadata.entry_points(group="longshore.commands", name=application))
    if len(entries) != 1:
        raise ConfigError("", f'no {application} is installed; pip install "longshore[server]"')
    module = f"{entries[0].module.partition('.')[0]}.settings"
    found: object = getattr(
        importlib.import_module(module), f"{application.capitalize()}Settings", None
    )
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise ConfigError("", f"{module} has no settings of the {application}")
    return found


def _print(settings: BaseModel) -> None:
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.dump(loading.redact(settings), sys.stdout)
