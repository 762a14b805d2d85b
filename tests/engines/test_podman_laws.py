"""The driver `podman` keeps the laws that bind it, on a real service."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from longshore_core.testing import (
    DRIVER_LAWS,
    Failed,
    Outcome,
    Profile,
    Settings,
    in_profile,
    run_laws,
)
from longshore_core.testing.bench import Engine

from tests.engines import images
from tests.engines.podman import Podman, PrivatePodman

_ROOT = Path(__file__).parents[2]
CORE = in_profile(DRIVER_LAWS, Profile.CORE)
ALL = bool(os.environ.get("LONGSHORE_ALL_LAWS"))
"""All of them take minutes, which `make laws` gives them; here it is one law in twelve."""


class Service(Engine):
    """The kit may take it away. It is brought back by another process: a child of this one would
    look like a leak."""

    def __init__(self, service: PrivatePodman) -> None:
        self._service = service

    async def stop(self) -> None:
        await anyio.to_thread.run_sync(self._service.stop)

    async def start(self) -> None:
        command = [sys.executable, "-m", "tests.engines.podman", "start"]
        await anyio.run_process([*command, str(self._service.directory)], cwd=_ROOT)


@pytest.fixture
def engine(podman_engine: Podman) -> Iterator[Service | None]:
    if podman_engine.directory is None:
        yield None
        return
    service = PrivatePodman(podman_engine.directory)
    yield Service(service)
    service.start()


@pytest.mark.timeout(900)
def test_podman_conforms(podman_engine: Podman, engine: Service | None, tmp_path: Path) -> None:
    image = podman_engine.load(images.BASE)
    # No pool: what it makes ahead of its time is no leak of the law's, but looks like one.
    options = {"address": podman_engine.address, "ready_networks": 0}
    settings = Settings(image=image, engine=engine, cache=tmp_path)
    laws = CORE if ALL else CORE[::12]
    outcomes: list[Outcome] = anyio.run(
        partial(run_laws, "podman", laws, options=options, settings=settings)
    )
    broken = {o.law.id: o.verdict.reason for o in outcomes if isinstance(o.verdict, Failed)}
    assert broken == {}
