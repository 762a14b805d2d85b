"""All laws, by the kind of plugin that they bind."""

from __future__ import annotations

from typing import Final

from longshore_core.testing.bench import Bench
from longshore_core.testing.law import Law
from longshore_core.testing.laws import info

DRIVER_LAWS: Final[tuple[Law[Bench], ...]] = (*info.LAWS,)
