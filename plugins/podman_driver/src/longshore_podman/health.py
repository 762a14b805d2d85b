"""What the engine is and how it does, told whenever that changes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
from longshore_core import BackendError, Fingerprint, Limits
from longshore_core.abc import HealthStream

from longshore_podman.answers import Info
from longshore_podman.engine import Engine
from longshore_podman.events import Events

_FIRST_SECONDS: Final = 0.9
_LOOK_SECONDS: Final = 10.0
_PERIOD_SECONDS: Final = 30.0
"""Free resources change without an event."""


class Health(HealthStream):
    """Looks at the engine as long as `run` does, for all who follow it."""

    def __init__(self, engine: Engine, events: Events, info: Info) -> None:
        self._engine = engine
        self._events = events
        self._version = info.version
        self._storage_path = info.storage_path
        self._latest: Fingerprint | None = None
        self._news = anyio.Event()

    async def run(self) -> None:
        """Look whenever there is an event, and now and then. Never ends by itself."""
        seconds = _FIRST_SECONDS
        while True:
            # Taken before looking: what changes from now on is seen the next time.
            changed = self._events.changed
            seen = await self._look(seconds)
            if seen != self._latest:
                self._latest = seen
                self._news.set()
                self._news = anyio.Event()
            with anyio.move_on_after(_PERIOD_SECONDS):
                await changed.wait()
            seconds = _LOOK_SECONDS

    @asynccontextmanager
    async def fingerprints(self) -> AsyncGenerator[AsyncIterator[Fingerprint]]:
        yield self._follow()

    async def _follow(self) -> AsyncGenerator[Fingerprint]:
        told: Fingerprint | None = None
        while True:
            news, latest = self._news, self._latest
            if latest is not None and latest != told:
                told = latest
                yield latest
            else:
                await news.wait()

    async def _look(self, seconds: float) -> Fingerprint:
        try:
            with anyio.fail_after(seconds):
                self._version = await self._engine.ping() or self._version
                images = await self._engine.images()
        except TimeoutError:
            return self._unhealthy(f"Podman at {self._engine.address} does not answer in time")
        except BackendError as exc:
            return self._unhealthy(str(exc))
        name = f"Podman {self._version}"
        return Fingerprint(healthy=True, engine=name, images=images, free=self._free())

    def _unhealthy(self, reason: str) -> Fingerprint:
        return Fingerprint(healthy=False, reason=reason, engine=f"Podman {self._version}")

    def _free(self) -> Limits:
        """Of this host, when the engine's files are on it."""
        try:
            disk = os.statvfs(self._storage_path)
            lines = Path("/proc/meminfo").read_text().splitlines()
        except OSError:
            return Limits()
        memory = dict(line.split(":", 1) for line in lines)["MemAvailable"]
        return Limits(
            memory_bytes=int(memory.split()[0]) << 10,
            disk_bytes=disk.f_bavail * disk.f_frsize,
        )
