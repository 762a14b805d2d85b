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
from longshore_core.address import UnixAddress

from longshore_podman.answers import Info
from longshore_podman.engine import Engine
from longshore_podman.events import Events
from longshore_podman.known import Known

_FIRST_SECONDS: Final = 0.9
_LOOK_SECONDS: Final = 10.0
_PERIOD_SECONDS: Final = 30.0
"""Free resources change without an event."""
_STEPS: Final = 64
"""In how many steps free resources are told, so that not every page of memory is news."""


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
            await self._see(seconds)
            with anyio.move_on_after(_PERIOD_SECONDS):
                await changed.wait()
            seconds = _LOOK_SECONDS

    @asynccontextmanager
    async def fingerprints(self) -> AsyncGenerator[AsyncIterator[Fingerprint]]:
        yield self._follow()

    async def _follow(self) -> AsyncGenerator[Fingerprint]:
        # Whoever begins wants to know how it is, and not how it was when somebody last looked.
        await self._see(_FIRST_SECONDS)
        told: Fingerprint | None = None
        while True:
            news, latest = self._news, self._latest
            if latest is not None and latest != told:
                told = latest
                yield latest
            else:
                await news.wait()

    async def _see(self, seconds: float) -> None:
        seen = await self._look(seconds)
        if seen != self._latest:
            self._latest = seen
            self._news.set()
            self._news = anyio.Event()

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
        free = _free(info, is_here=isinstance(self._engine.address, UnixAddress))
        return Fingerprint(healthy=True, engine=self._name(), images=images, free=free)

    def _unhealthy(self, reason: str) -> Fingerprint:
        return Fingerprint(healthy=False, reason=reason, engine=self._name())

    def _name(self) -> str:
        return f"Podman {self._version}" if self._version else ""


def _free(info: Info, *, is_here: bool) -> Limits:
    """Memory and disk only of an engine on this host."""
    cores = info.cores * 1000
    if not is_here:
        return Limits(cpu_millis=cores)
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = dict(line.split(":", 1) for line in lines)
    total, free = (int(memory[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    try:
        disk = os.statvfs(info.storage_path)
    except OSError:
        return Limits(cpu_millis=cores, memory_bytes=_rounded(free, total))
    return Limits(
        cpu_millis=cores,
        memory_bytes=_rounded(free, total),
        disk_bytes=_rounded(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize),
    )


def _rounded(free: int, total: int) -> int:
    """Down to a whole step."""
    step = max(1, total // _STEPS)
    return free // step * step
