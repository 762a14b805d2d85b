"""All laws, by the kind of plugin that they bind."""

from __future__ import annotations

from typing import Final

from longshore_core.testing.bench import Bench
from longshore_core.testing.law import Law
from longshore_core.testing.laws import exec as programs
from longshore_core.testing.laws import (
    faults,
    files,
    finger,
    info,
    iso,
    life,
    limits,
    net,
    perf,
    recover,
    snap,
)

DRIVER_LAWS: Final[tuple[Law[Bench], ...]] = (
    *info.LAWS,
    *finger.LAWS,
    *life.LAWS,
    *faults.LAWS,
    *recover.LAWS,
    *programs.LAWS,
    *files.LAWS,
    *limits.LAWS,
    *iso.LAWS,
    *net.LAWS,
    *snap.LAWS,
    *perf.LAWS,
)
