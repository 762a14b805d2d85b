"""Checking a plugin's module against the hook specs, and asking it.

Each plugin has a pluggy manager of its own: one that raises cannot abort another's call, and the
order of calls is the config's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

import anyio
import pluggy
from anyio import to_thread

from longshore_core._errors import LongshoreError, PluginContractError, PluginCrash
from longshore_core._model import PLUGIN_API, ContainerSpec
from longshore_core._plugins import catalog
from longshore_core._plugins.catalog import Installed
from longshore_core.abc import (
    Guest,
    Layer,
    NetworkEnforcer,
    Plug,
    Registry,
    Runtime,
    SecretsProvider,
)
from longshore_core.hookspecs import PROJECT, LongshoreSpecs

ThingT = TypeVar("ThingT")

VETO_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Seam(Generic[ThingT]):
    """One kind of plugin: its entry-point group, its hook, and where the config chooses it."""

    group: str
    hook: str
    path: str


DRIVERS: Final[Seam[Runtime]] = Seam("longshore.drivers", "longshore_driver", "driver")
GUESTS: Final[Seam[Guest]] = Seam("longshore.guests", "longshore_guest", "guest")
NETWORKS: Final[Seam[NetworkEnforcer]] = Seam("longshore.networks", "longshore_network", "network")
REGISTRIES: Final[Seam[Registry]] = Seam(
    "longshore.registries", "longshore_registry", "snapshot_registry"
)
MIDDLEWARES: Final[Seam[Layer]] = Seam(
    "longshore.middlewares", "longshore_middleware", "http_proxy.middlewares"
)
SECRETS: Final[Seam[SecretsProvider]] = Seam("longshore.secrets", "longshore_secrets", "secrets")
SEAMS: Final[tuple[Seam[Any], ...]] = (DRIVERS, GUESTS, NETWORKS, REGISTRIES, MIDDLEWARES, SECRETS)
ADMISSIONS: Final = "longshore.admissions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A plugin's module, imported and checked against the hook specs."""

    origin: Installed
    manager: pluggy.PluginManager

    def implements(self, hook: str) -> bool:
        return bool(getattr(self.manager.hook, hook).get_hookimpls())


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected(Generic[ThingT]):
    """A plugin that the config names, and what it offers."""

    loaded: Loaded
    plug: Plug[Any, ThingT]

    @property
    def origin(self) -> Installed:
        return self.loaded.origin


@contextmanager
def blame(origin: Installed, operation: str) -> Generator[None]:
    """Turn whatever a plugin raises in here into a PluginCrash that names it.

    Our own errors pass: they are the plugin's way of saying what the world did. So does
    cancellation, which is no Exception.
    """
    try:
        yield
    except LongshoreError:
        raise
    except Exception as exc:
        # The one place where any exception is caught: a plugin's bug is not ours.
        shown = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        raise PluginCrash(origin.label, f"{operation} raised {shown}") from exc


def load(origin: Installed) -> Loaded:
    """Import a plugin and check its hooks. Raises PluginLoadError, PluginContractError."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(LongshoreSpecs)
    module = catalog.load(origin)
    try:
        manager.register(module, origin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as exc:
        reason = str(exc).partition("\n")[2].strip() or str(exc)
        raise PluginContractError(origin.label, " ".join(reason.split())) from exc
    return Loaded(origin=origin, manager=manager)


def select(seam: Seam[ThingT], name: str, path: str | None = None) -> Selected[ThingT]:
    """The plugin that the config names at `path`, asked for its offer.

    Raises UnknownPlugin, PluginLoadError, PluginContractError, PluginCrash.
    """
    loaded = load(catalog.find(seam.group, name, path or f"{seam.path}.type"))
    origin = loaded.origin
    if not loaded.implements(seam.hook):
        raise PluginContractError(origin.label, f"implements no hook {seam.hook}")
    with blame(origin, seam.hook):
        offer: object = getattr(loaded.manager.hook, seam.hook)()
    return Selected(loaded=loaded, plug=accept(seam, origin, offer))


def accept(seam: Seam[ThingT], origin: Installed, offer: object) -> Plug[Any, ThingT]:
    """What a hook answered, when this kernel can use it. Raises PluginContractError."""
    if not isinstance(offer, Plug):
        found = type(offer).__name__
        raise PluginContractError(origin.label, f"{seam.hook} returned a {found}, not a Plug")
    major, minor = offer.api
    if major != PLUGIN_API[0] or minor > PLUGIN_API[1]:
        ours = ".".join(map(str, PLUGIN_API))
        raise PluginContractError(
            origin.label, f"needs plugin API {major}.{minor}; this Longshore offers {ours}"
        )
    # What it is a plug for, no check at run time can tell: the hook is the promise.
    return cast("Plug[Any, ThingT]", offer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whoever may veto a container, in the order of the config."""

    voters: Sequence[Loaded]

    async def veto(self, spec: ContainerSpec) -> str | None:
        """The first reason against `spec`; a crash and a late answer are reasons too."""
        for voter in self.voters:
            reason = await self._ask(voter, spec)
            if reason is not None:
                return f"vetoed by plugin {voter.origin.label}: {reason}"
        return None

    async def _ask(self, voter: Loaded, spec: ContainerSpec) -> str | None:
        def ask() -> object:
            with blame(voter.origin, "longshore_admit"):
                answers = voter.manager.hook.longshore_admit(spec=spec)
            return next(iter(answers), None)

        with anyio.move_on_after(VETO_SECONDS):
            try:
                answer = await to_thread.run_sync(ask, abandon_on_cancel=True)
            except LongshoreError as exc:
                return str(exc)
            return None if answer is None else str(answer)
        return f"no answer within {VETO_SECONDS:g} seconds"


def admission(names: Sequence[str], selected: Sequence[Loaded]) -> Admission:
    """The voters: those that `admission` lists, then the selected plugins that implement it."""
    listed = [
        load(catalog.find(ADMISSIONS, name, f"admission.{index}"))
        for index, name in enumerate(names)
    ]
    for voter in listed:
        if not voter.implements("longshore_admit"):
            raise PluginContractError(voter.origin.label, "implements no hook longshore_admit")
    others = [loaded for loaded in selected if loaded.implements("longshore_admit")]
    return Admission(voters=(*listed, *others))
