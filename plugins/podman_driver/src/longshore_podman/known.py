"""What is known of the engine: nothing, until it has once said what it is. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
from longshore_core import Limit
from longshore_core.address import UnixAddress

from longshore_podman.answers import Info
from longshore_podman.engine import Engine
from longshore_podman.quotas import limits_disk


class Known:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.told = anyio.Event()
        """Set once `info` is there."""
        self.info: Info | None = None
        self.limits = frozenset(Limit)
        """What the engine enforces. Every one, until it has been asked: what it cannot keep is then
        refused by the driver, rather than left out by whoever asks for it."""

    async def ask(self) -> Info:
        """Raises EngineUnavailable, and Refusal, until the engine has once been asked."""
        if self.info is None:
            info = await self._engine.info()
            # What is mounted here says nothing of an engine elsewhere.
            is_local = isinstance(self._engine.address, UnixAddress)
            mounts = await anyio.to_thread.run_sync(_mounts) if is_local else ()
            self.limits = _limits(info, mounts)
            self.info = info
            self.told.set()
        return self.info


def _limits(info: Info, mounts: Sequence[str]) -> frozenset[Limit]:
    """By controllers, and by quotas of its file system."""
    known = {"cpu": Limit.CPU, "memory": Limit.MEMORY, "pids": Limit.PIDS}
    limits = {known[name] for name in info.controllers if name in known}
    return frozenset(limits | ({Limit.DISK} if limits_disk(info, mounts) else set()))


def _mounts() -> list[str]:
    text = Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    return text.splitlines()
