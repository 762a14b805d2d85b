"""Snapshots: the laws come with the ability, which no field of `Runtime` offers yet."""

from __future__ import annotations

from typing import Final

from longshore_core.testing.bench import Bench
from longshore_core.testing.law import LIVE_SNAPSHOT, Group, Law

SNAP: Final[Group[Bench]] = Group("snap", requires=(LIVE_SNAPSHOT,))

LAWS: Final[tuple[Law[Bench], ...]] = ()
