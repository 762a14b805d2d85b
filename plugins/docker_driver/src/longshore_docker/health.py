"""How the engine does: looked at whenever something happens to it, and every half minute."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread
from longshore_core import BackendError, Fingerprint, Limits
from longshore_core.abc import HealthStream

from longshore_docker.answers import Info
from longshore_docker.engine import Engine
from longshore_docker.events import Events
from longshore_docker.networks import IMAGE

_FIRST_SECONDS: Final = 0.8
"""Who opens the driver waits for the first look."""
_LOOK_SECONDS: Final = 10.0
"""An engine that makes many containers at once is busy, and not away."""
_AGAIN_SECONDS: Final = 30.0
_SOON_SECONDS: Final = 1.0
_STEPS: Final = 64
"""In how many steps free resources are told, so that not every page of memory is news."""


class Health(HealthStream):
    """Free are all the engine's cores, since containers share them, and what the host has left of
    memory and disk; on another host, only the cores are known."""

    def __init__(self, engine: Engine, events: Events, *, local: bool) -> None:
        self._engine = engine
        self._events = events
        self._local = local
        self._name = ""

    @asynccontextmanager
    async def fingerprints(self) -> AsyncGenerator[AsyncIterator[Fingerprint]]:
        with self._events.listening() as ear:

            async def follow() -> AsyncGenerator[Fingerprint]:
                latest: Fingerprint | None = None
                while True:
                    now = await self._look(_LOOK_SECONDS if latest else _FIRST_SECONDS)
                    if now != latest:
                        yield now
                    latest = now
                    # That an engine is no longer slow, no event tells.
                    with anyio.move_on_after(_AGAIN_SECONDS if now.healthy else _SOON_SECONDS):
                        await ear.wait()

            following = follow()
            try:
                yield following
            finally:
                await following.aclose()

    async def _look(self, seconds: float) -> Fingerprint:
        try:
            with anyio.fail_after(seconds):
                info = await self._engine.info()
                images = await self._engine.images()
        except TimeoutError:
            address, name = self._engine.address, self._name
            slow = f"the Docker engine at {address} does not answer within {seconds:g} s"
            return Fingerprint(healthy=False, reason=slow, engine=name)
        except BackendError as exc:
            return Fingerprint(healthy=False, reason=str(exc), engine=self._name)
        self._name = f"Docker {info.version}"
        return Fingerprint(
            healthy=True,
            engine=self._name,
            free=await anyio.to_thread.run_sync(self._free, info),
            images=tuple(image for image in images if not image.startswith(f"{IMAGE}:")),
        )

    def _free(self, info: Info) -> Limits:
        cores = info.cores * 1000
        if not self._local:
            return Limits(cpu_millis=cores)
        pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        try:
            disk = os.statvfs(info.directory)
        except OSError:
            return Limits(cpu_millis=cores, memory_bytes=_rounded(pages, info.memory_bytes))
        return Limits(
            cpu_millis=cores,
            memory_bytes=_rounded(pages, info.memory_bytes),
            disk_bytes=_rounded(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize),
        )


def _rounded(free: int, total: int) -> int:
    """Down to a whole step."""
    step = max(1, total // _STEPS)
    return free // step * step
