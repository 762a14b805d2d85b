"""Every hook, on one page.

A plugin is a module, named by an entry point, with one function from this page marked `hookimpl`.
Hooks are synchronous and called with positional arguments; what they return does the work.
"""

from __future__ import annotations

from typing import Any, Final

import pluggy

from longshore_core._model import ContainerSpec
from longshore_core.abc import (
    Guest,
    Layer,
    NetworkEnforcer,
    Plug,
    Registry,
    Runtime,
    SecretsProvider,
)

PROJECT: Final = "longshore"
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


class LongshoreSpecs:
    """One hook per seam, answered by the plugin that the config names; then those asked of all."""

    @hookspec(firstresult=True)
    def longshore_driver(self) -> Plug[Any, Runtime] | None:
        """Offer a driver. Group `longshore.drivers`; config `driver`."""

    @hookspec(firstresult=True)
    def longshore_guest(self) -> Plug[Any, Guest] | None:
        """Offer what runs as PID 1. Group `longshore.guests`; config `guest`."""

    @hookspec(firstresult=True)
    def longshore_network(self) -> Plug[Any, NetworkEnforcer] | None:
        """Offer a network enforcer. Group `longshore.networks`; config `network`."""

    @hookspec(firstresult=True)
    def longshore_registry(self) -> Plug[Any, Registry] | None:
        """Offer a snapshot registry. Group `longshore.registries`; config `snapshot_registry`."""

    @hookspec(firstresult=True)
    def longshore_middleware(self) -> Plug[Any, Layer] | None:
        """Offer a middleware. Group `longshore.middlewares`; config `http_proxy.middlewares`."""

    @hookspec(firstresult=True)
    def longshore_secrets(self) -> Plug[Any, SecretsProvider] | None:
        """Offer a provider of secrets. Group `longshore.secrets`; config `secrets`."""

    @hookspec
    def longshore_admit(self, spec: ContainerSpec) -> str | None:
        """Say why a container may not be made; `None` lets it pass.

        Any plugin that the config selects may implement it, and those of the group
        `longshore.admissions` that the config lists under `admission` implement nothing else.
        Asked in the order of the config, in a thread, before anything of the container exists.
        A crash is a veto, and so is an answer later than two seconds.
        """
