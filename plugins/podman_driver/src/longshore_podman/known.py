"""What is known of the engine: nothing, until it has once said what it is. Nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import anyio
from longshore_core import Limit

from longshore_podman.answers import Info
from longshore_podman.engine import Engine


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
    return frozenset(limits | ({Limit.DISK} if _has_quotas(info) else set()))


def _has_quotas(info: Info) -> bool:
    if info.storage_driver != "overlay" or info.backing != "xfs":
        return False
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [fields for fields in mounts if Path(info.storage_path).is_relative_to(fields[1])]
    nearest = max(above, key=lambda fields: len(fields[1]), default=None)
    return nearest is not None and bool({"prjquota", "pquota"} & set(nearest[3].split(",")))
