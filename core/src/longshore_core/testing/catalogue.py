"""All laws, by the kind of plugin that they bind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from longshore_core.testing.bench import Bench
from longshore_core.testing.law import Law
from longshore_core.testing.laws import (
    beside,
    chaos,
    faults,
    files,
    finger,
    guest,
    images,
    info,
    iso,
    life,
    limits,
    logs,
    middleware,
    net,
    network,
    pause,
    perf,
    recover,
    registry,
    scarcity,
    snap,
    terminal,
    ttl,
    undeclared,
    usage,
)
from longshore_core.testing.laws import exec as programs

DRIVER_LAWS: Final[tuple[Law[Bench], ...]] = (
    *info.LAWS,
    *finger.LAWS,
    *images.LAWS,
    *life.LAWS,
    *faults.LAWS,
    *scarcity.LAWS,
    *recover.LAWS,
    *programs.LAWS,
    *terminal.LAWS,
    *beside.LAWS,
    *logs.LAWS,
    *files.LAWS,
    *limits.LAWS,
    *usage.LAWS,
    *pause.LAWS,
    *iso.LAWS,
    *ttl.LAWS,
    *net.LAWS,
    *snap.LAWS,
    *undeclared.LAWS,
    *perf.LAWS,
    *chaos.LAWS,
)
NETWORK_LAWS: Final[tuple[Law[network.NetworkBench], ...]] = (*info.SEAM_LAWS, *network.LAWS)
REGISTRY_LAWS: Final[tuple[Law[registry.RegistryBench], ...]] = (*info.SEAM_LAWS, *registry.LAWS)
MIDDLEWARE_LAWS: Final[tuple[Law[middleware.MiddlewareBench], ...]] = (
    *info.SEAM_LAWS,
    *middleware.LAWS,
)
GUEST_LAWS: Final[tuple[Law[guest.GuestBench], ...]] = (*info.SEAM_LAWS, *guest.LAWS)

LAWS: Final[Mapping[str, tuple[Law[Any], ...]]] = MappingProxyType(
    {
        "driver": DRIVER_LAWS,
        "network": NETWORK_LAWS,
        "registry": REGISTRY_LAWS,
        "middleware": MIDDLEWARE_LAWS,
        "guest": GUEST_LAWS,
    }
)
