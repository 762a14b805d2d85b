"""Fixtures; what they are made of is in `quayside`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from longshore_core._proxy.serve import Timeouts

from tests.loops import ASYNCIO, Backend

# With `--import-mode=importlib` the folder of a test is on nobody's path.
sys.path.insert(0, str(Path(__file__).parent))

from quayside import Dock, running


@pytest.fixture
def anyio_backend() -> Backend:
    """The proxy serves on asyncio only."""
    return ASYNCIO


@pytest.fixture
async def dock(tmp_path: Path) -> AsyncGenerator[Dock, None]:
    async with running(tmp_path) as dock:
        yield dock


@pytest.fixture
def quick() -> Timeouts:
    """Timeouts that a test can wait for."""
    return Timeouts(
        connect_seconds=0.3,
        read_seconds=0.3,
        write_seconds=0.3,
        body_seconds=0.3,
        head_seconds=0.3,
        keep_alive_seconds=0.3,
        upstream_idle_seconds=0.3,
        linger_seconds=0.3,
        drain_seconds=5,
    )
