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

from longshore_podman.engine import Engine, Info
from longshore_podman.events import Events

_FIRST_SECONDS: Final = 0.9
_LOOK_SECONDS: Final = 10.0
_PERIOD_SECONDS: Final = 30.0
"""Free resources change without an event."""


class Health(HealthStream):
    def __init__(self, engine: Engine, events: Events, info: Info) -> None:
        self._engine = engine
        self._events = events
        self._version = info.version
        self._storage_path = info.storage_path

    @asynccontextmanager
    async def fingerprints(self) -> AsyncGenerator[AsyncIterator[Fingerprint]]:
        yield self._follow()

    async def _follow(self) -> AsyncGenerator[Fingerprint]:
        changed = self._events.changed
        last = await self._look(_FIRST_SECONDS)
        yield last
        while True:
            with anyio.move_on_after(_PERIOD_SECONDS):
                await changed.wait()
            # Taken before looking: what changes from now on is seen the next time.
            changed = self._events.changed
            seen = await self._look(_LOOK_SECONDS)
            if seen != last:
                last = seen
                yield seen

    async def _look(self, seconds: float) -> Fingerprint:
        try:
            with anyio.fail_after(seconds):
                self._version = await self._engine.ping()
                images = await self._engine.images()
        except TimeoutError:
            reason = f"Podman at {self._engine.address} does not answer in time"
            return Fingerprint(healthy=False, reason=reason, engine=self._name)
        except BackendError as exc:
            return Fingerprint(healthy=False, reason=str(exc), engine=self._name)
        return Fingerprint(healthy=True, engine=self._name, images=images, free=self._free())

    @property
    def _name(self) -> str:
        return f"Podman {self._version}" if self._version else ""

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
