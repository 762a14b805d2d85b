"""Freezing a container, and measuring what it uses."""

from __future__ import annotations

from typing import Final

from longshore_core import BackendError, Handle, Usage
from longshore_core.abc import Meter, Pauser

from longshore_podman.engine import Engine, Refusal
from longshore_podman.lookup import Lookup

_NANO: Final = 1e-9
_FREEZES: Final = 5
"""Control groups of version 1 freeze what they hold by chance: runc tries for a while, thaws it
again, and fails (opencontainers/runc#2791)."""


class PodmanPauser(Pauser):
    def __init__(self, engine: Engine, lookup: Lookup) -> None:
        self._engine = engine
        self._lookup = lookup

    async def pause(self, handle: Handle) -> None:
        container = await self._lookup.running(handle)
        for attempt in range(_FREEZES):
            if container.is_paused:
                return
            try:
                await self._engine.pause(container.id)
            except Refusal as exc:
                container = await self._lookup.running(handle)
                if attempt == _FREEZES - 1 and not container.is_paused:
                    raise BackendError(f"cannot pause container {handle.id}: {exc}") from exc
            else:
                return

    async def resume(self, handle: Handle) -> None:
        container = await self._lookup.running(handle)
        if container.is_paused:
            try:
                await self._engine.unpause(container.id)
            except Refusal as exc:
                raise BackendError(f"cannot resume container {handle.id}: {exc}") from exc


class PodmanMeter(Meter):
    def __init__(self, engine: Engine, lookup: Lookup) -> None:
        self._engine = engine
        self._lookup = lookup

    async def usage(self, handle: Handle) -> Usage:
        container = await self._lookup.running(handle)
        try:
            figures = await self._engine.statistics(container.id)
        except Refusal as exc:
            raise BackendError(f"cannot measure container {handle.id}: {exc}") from exc
        return Usage(
            cpu_seconds=figures["CPUNano"] * _NANO,
            memory_bytes=figures["MemUsage"],
            pids=figures["PIDs"],
        )
