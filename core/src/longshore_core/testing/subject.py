"""What is examined: a plugin by its name, by `pkg:Thing`, or as a `Plug` in the hand.

Always opened as the worker opens it: the hook is called, its offer checked against the plugin API,
the options against its config model, and whatever it raises is blamed on it.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import pluggy
from pydantic import BaseModel, ConfigDict

from longshore_core._errors import ConfigError, PluginContractError, PluginLoadError, UnknownPlugin
from longshore_core._model import Facts
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import (
    DRIVERS,
    GUESTS,
    MIDDLEWARES,
    NETWORKS,
    REGISTRIES,
    SEAMS,
    Loaded,
    Seam,
    Selected,
    accept,
    blame,
    select,
)
from longshore_core._plugins.opening import opened
from longshore_core.abc import AnyPlug, Driver, Host, Plug, Runtime
from longshore_core.hookspecs import PROJECT

ThingT = TypeVar("ThingT")
Source: TypeAlias = str | AnyPlug
"""An entry point's name, `pkg:Thing`, or a plug."""

KINDS: Final[Mapping[str, Seam[Any]]] = {
    "driver": DRIVERS,
    "network": NETWORKS,
    "registry": REGISTRIES,
    "middleware": MIDDLEWARES,
    "guest": GUESTS,
}
"""The kinds of plugin that there are laws for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Generic[ThingT]):
    """A plugin under examination, and what its config says."""

    seam: Seam[ThingT]
    selected: Selected[ThingT]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    source: Source = ""

    @property
    def origin(self) -> Installed:
        return self.selected.origin

    @property
    def kind(self) -> str:
        """By which its laws are found."""
        return next(kind for kind, seam in KINDS.items() if seam is self.seam)

    @property
    def plug(self) -> Plug[Any, ThingT]:
        return self.selected.plug

    def describe(self) -> dict[str, Any]:
        """The schema of its config, from its hook, asked once more."""
        hook = getattr(self.selected.loaded.manager.hook, self.seam.hook, None)
        plug = self.plug if hook is None else accept(self.seam, self.origin, hook())
        schema: dict[str, Any] = plug.config.model_json_schema()
        return schema

    def open(self, host: Host) -> AbstractAsyncContextManager[ThingT]:
        """Open it, as the kernel does."""
        return opened(self.selected, dict(self.options), host, self.seam.path)


def find_subject(
    source: Source, options: Mapping[str, Any] | None = None, *, kind: str = "driver"
) -> Subject[Any]:
    """The plugin that `source` means.

    Raises UnknownPlugin, PluginLoadError, PluginContractError, PluginCrash.
    """
    seam: Seam[Any] = KINDS[kind]
    if isinstance(source, str) and ":" not in source:
        selected = select(seam, source)
    else:
        selected = _from_thing(seam, source)
    return Subject(seam=seam, selected=selected, options=options or {}, source=source)


def _from_thing(seam: Seam[Any], source: Source) -> Selected[Any]:
    thing: object
    if isinstance(source, str):
        name = source
        module, _, attribute = source.partition(":")
        thing = _imported(module, attribute, source)
    else:
        name, module, thing = source.open.__name__, source.open.__module__, source
    origin = _origin(seam, name, module)
    if isinstance(thing, type):
        thing = _plug_of(cast("type[Any]", thing), seam, origin)
    elif callable(thing):
        hook = cast("Callable[[], object]", thing)
        with blame(origin, name):
            thing = hook()
    loaded = Loaded(origin=origin, manager=pluggy.PluginManager(PROJECT))
    return Selected(loaded=loaded, plug=accept(seam, origin, thing))


def _imported(module: str, attribute: str, source: str) -> object:
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as exc:
        raise PluginLoadError(source, f"cannot import {module}: {exc}") from exc
    except AttributeError as exc:
        raise UnknownPlugin("", f"{module} has no {attribute!r}") from exc


def _origin(seam: Seam[Any], name: str, module: str) -> Installed:
    distribution = _distribution(module.partition(".")[0])
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    return Installed(
        group=seam.group, name=name, value=name, distribution=distribution, version=version
    )


@cache
def _distribution(package: str) -> str:
    return next(iter(metadata.packages_distributions().get(package, [])), package)


class _NoConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _plug_of(thing: type[Any], seam: Seam[Any], origin: Installed) -> AnyPlug:
    """A class alone: it is made without arguments, and has `facts` if it is a driver's."""
    if seam not in SEAMS:
        raise PluginContractError(origin.label, f"nothing is known of {seam.group}")

    @asynccontextmanager
    async def open_thing(_config: _NoConfig, _host: Host) -> AsyncGenerator[object]:
        made: object = thing()
        if seam is not DRIVERS:
            yield made
            return
        facts: object = getattr(made, "facts", None) or Facts()
        if not isinstance(facts, Facts):
            raise ConfigError("", f"{origin.name}.facts is not a Facts")
        yield Runtime(driver=cast("Driver", made), facts=facts)

    return Plug(config=_NoConfig, open=open_thing)
