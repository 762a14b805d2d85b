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

from longshore_podman.engine import Engine
from longshore_podman.events import Events
from longshore_podman.known import Known

_FIRST_SECONDS: Final = 0.9
_LOOK_SECONDS: Final = 10.0
_PERIOD_SECONDS: Final = 30.0
"""Free resources change without an event."""


class Health(HealthStream):
    """Looks at the engine as long as `run` does, for all who follow it."""

    def __init__(self, engine: Engine, events: Events, known: Known) -> None:
        self._engine = engine
        self._events = events
        self._known = known
        self._version = known.info.version if known.info else ""
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
                info = await self._known.ask()
                images = await self._engine.images()
        except TimeoutError:
            return self._unhealthy(f"Podman at {self._engine.address} does not answer in time")
        except BackendError as exc:
            return self._unhealthy(str(exc))
        return Fingerprint(
            healthy=True, engine=self._name(), images=images, free=_free(info.storage_path)
        )

    def _unhealthy(self, reason: str) -> Fingerprint:
        return Fingerprint(healthy=False, reason=reason, engine=self._name())

    def _name(self) -> str:
        return f"Podman {self._version}".strip()


def _free(storage_path: str) -> Limits:
    """Of this host, when the engine's files are on it."""
    try:
        disk = os.statvfs(storage_path)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return Limits()
    memory = dict(line.split(":", 1) for line in lines)["MemAvailable"]
    return Limits(
        memory_bytes=int(memory.split()[0]) << 10,
        disk_bytes=disk.f_bavail * disk.f_frsize,
    )
