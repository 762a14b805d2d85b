"""What is installed, and the one door to it: stevedore loads exactly what the config names.

Names come from `importlib.metadata`, which imports nothing and knows each entry point's
distribution; stevedore's own answers have lost it, and miss duplicates that are not neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any, Final, cast

from stevedore.named import NamedExtensionManager

from longshore_core._errors import PluginContractError, PluginLoadError, UnknownPlugin
from longshore_core.process.config import nearest

GROUPS: Final = (
    "longshore.drivers",
    "longshore.guests",
    "longshore.networks",
    "longshore.registries",
    "longshore.middlewares",
    "longshore.secrets",
    "longshore.admissions",
    "longshore.commands",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One entry point, and the distribution that claims it."""

    group: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def provenance(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def label(self) -> str:
        """How errors name it: `docker (longshore-docker 1.0)`."""
        return f"{self.name} ({self.provenance})"


def installed(groups: Iterable[str] = GROUPS) -> tuple[Installed, ...]:
    """Every plugin of these groups, by group and name. Imports none of them."""
    wanted = set(groups)
    entries = [
        Installed(
            group=entry.group,
            name=entry.name,
            value=entry.value,
            distribution=name,
            version=distribution.version,
        )
        for name, distribution in _distributions()
        for entry in distribution.entry_points
        if entry.group in wanted
    ]
    return tuple(sorted(entries, key=lambda item: (item.group, item.name, item.distribution)))


def _distributions() -> Iterator[tuple[str, metadata.Distribution]]:
    """Each distribution once: one further down the path is not what an import would find.

    What an interrupted installation has left behind has no name, and is passed over.
    """
    seen: set[str] = set()
    for distribution in metadata.distributions():
        name = cast("str | None", distribution.metadata["Name"])
        normal = re.sub(r"[-_.]+", "-", name or "").lower()
        if name and normal not in seen:
            seen.add(normal)
            yield name, distribution


def find(group: str, name: str, path: str) -> Installed:
    """The plugin `name` of `group`; `path` is where the config names it.

    Raises UnknownPlugin with the nearest match, PluginContractError when two distributions claim
    the name.
    """
    offers = installed([group])
    claims = [offer for offer in offers if offer.name == name]
    if not claims:
        names = sorted({offer.name for offer in offers})
        listed = f" (installed: {', '.join(names)})" if names else " (none is installed)"
        raise UnknownPlugin(path, f"no plugin named {name!r}{nearest(name, names)}{listed}")
    if len(claims) > 1:
        both = " and ".join(claim.provenance for claim in claims)
        raise PluginContractError(name, f"claimed in {group} by both {both}")
    return claims[0]


def load(plugin: Installed) -> ModuleType:
    """Import what the entry point names. Raises PluginLoadError for whatever goes wrong in it."""
    failures: list[BaseException] = []

    def failed(_manager: object, _entry: object, exc: BaseException) -> None:
        failures.append(exc)

    # Its list of entry points is kept for the life of the process: ours was read just now.
    NamedExtensionManager.ENTRY_POINT_CACHE.pop(plugin.group, None)
    loaded: list[object] = []
    try:
        manager: Any = NamedExtensionManager(
            plugin.group,
            names=[plugin.name],
            on_load_failure_callback=failed,
            on_missing_entrypoints_callback=None,
        )
        loaded = [extension.plugin for extension in manager]
    except (AssertionError, SystemExit) as exc:
        failures.append(exc)  # which stevedore lets through
    if failures:
        reason = failures[0]
        shown = str(reason) if isinstance(reason, ImportError) else repr(reason)
        message = f"cannot import {plugin.value}: {shown}"
        raise PluginLoadError(plugin.label, message) from reason
    if len(loaded) != 1 or not isinstance(loaded[0], ModuleType):
        raise PluginContractError(plugin.label, f"{plugin.value} does not name a module")
    return loaded[0]
