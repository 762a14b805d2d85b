"""Every law that is asked for, as a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from longshore_core.testing.law import Law


def test_law(law: Law[Any], examine: Callable[[Law[Any]], None]) -> None:
    examine(law)
