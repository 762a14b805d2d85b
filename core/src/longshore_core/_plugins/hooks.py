"""Checking a plugin's module against the hook specs, and asking it.

Each plugin has a pluggy manager of its own: one that raises cannot abort another's call, and the
order of calls is the config's.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

import anyio
import pluggy
from anyio import to_thread
from pydantic import BaseModel

from longshore_core._errors import KernelBug, LongshoreError, PluginContractError, PluginCrash
from longshore_core._model import PLUGIN_API, ContainerSpec
from longshore_core._plugins import catalog
from longshore_core._plugins.catalog import Installed
from longshore_core.abc import (
    AnyPlug,
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
VOTES: Final = 32
"""Questions that one plugin may be at: a thread cannot be cancelled, and those that hang add up."""


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
    asked: set[object] = field(default_factory=set[object], repr=False, compare=False)
    """The questions that threads are at right now."""

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

    Our own errors pass, also out of a task group of the plugin's: they are its way of saying what
    the world did. So does cancellation that is meant for us.
    """
    try:
        yield
    except BaseException as caught:
        # The one place where any exception is caught: a plugin's bug is not ours.
        exc = innermost(caught)
        if isinstance(exc, LongshoreError) and not isinstance(exc, KernelBug):
            raise exc from exc.__cause__
        if not isinstance(exc, Exception | SystemExit) and not _is_stray(exc):
            raise
        shown = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        raise PluginCrash(origin.label, f"{operation} raised {shown}") from exc


def innermost(exc: BaseException) -> BaseException:
    """What a task group has wrapped, where it is one thing."""
    while len(members := _members(exc)) == 1:
        exc = members[0]
    return exc


def _members(exc: BaseException) -> Sequence[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", exc).exceptions
    return ()


def _is_stray(exc: BaseException) -> bool:
    """Whether this is a cancellation that nobody here has asked for.

    A library that awaits a future of its own that was cancelled raises one. A task group takes it
    for its own end, and would end the worker without a word.
    """
    try:
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        return cancelled and anyio.current_effective_deadline() > -math.inf
    except anyio.NoEventLoopError:
        return False


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
    # What it is a plug for, no check at run time can tell: the hook is the promise.
    plug = cast("Plug[Any, ThingT]", offer)
    _check(plug, origin)
    return plug


def _check(plug: AnyPlug, origin: Installed) -> None:
    config = cast("object", plug.config)
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        raise PluginContractError(origin.label, "Plug.config is not a pydantic model's class")
    if not callable(plug.open):
        raise PluginContractError(origin.label, "Plug.open cannot be called")
    match cast("object", plug.api):
        case (int() as major, int() as minor):
            if major != PLUGIN_API[0] or minor > PLUGIN_API[1]:
                ours = ".".join(map(str, PLUGIN_API))
                needs = f"needs plugin API {major}.{minor}; this Longshore offers {ours}"
                raise PluginContractError(origin.label, needs)
        case api:
            raise PluginContractError(origin.label, f"Plug.api is {api!r}, not (major, minor)")


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
            question = object()
            voter.asked.add(question)
            try:
                with blame(voter.origin, "longshore_admit"):
                    answers = voter.manager.hook.longshore_admit(spec=spec)
            finally:
                voter.asked.discard(question)
            return next(iter(answers), None)

        if len(voter.asked) >= VOTES:
            return f"it still has not answered {VOTES} earlier questions"
        with anyio.move_on_after(VETO_SECONDS):
            try:
                answer = await to_thread.run_sync(ask, abandon_on_cancel=True)
            except LongshoreError as exc:
                return str(exc)
            if answer is None or isinstance(answer, str):
                return answer
            return f"longshore_admit returned a {type(answer).__name__}, not a text"
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
