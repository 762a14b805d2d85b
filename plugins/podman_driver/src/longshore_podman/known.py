"""What is known of the engine: nothing, until it has once said what it is. Nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import anyio
from longshore_core import Limit

from longshore_podman.answers import Info
from longshore_podman.engine import Engine
from longshore_podman.quotas import limits_disk


class Known:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.told = anyio.Event()
        """Set once `info` is there."""
        self.info: Info | None = None

    async def ask(self) -> Info:
        """Raises EngineUnavailable, and Refusal, until the engine has once been asked."""
        if self.info is None:
            self.info = await self._engine.info()
            self.told.set()
        return self.info


def limits_of(info: Info) -> frozenset[Limit]:
    """What this engine enforces: by controllers, and by quotas of its file system."""
    known = {"cpu": Limit.CPU, "memory": Limit.MEMORY, "pids": Limit.PIDS}
    limits = {known[name] for name in info.controllers if name in known}
    disk = limits_disk(info, Path("/proc/mounts").read_text(encoding="utf-8").splitlines())
    return frozenset(limits | ({Limit.DISK} if disk else set()))
