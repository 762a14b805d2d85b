"""What an engine that was killed over a start has forgotten of it, ended; see `shims`."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.to_thread
from longshore_core import BackendError

from longshore_docker import shims

_EXISTS: Final = re.compile("(already|file) exists")
_SETTLE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Of an engine. One that is elsewhere keeps its own."""

    is_local: bool
    logger: logging.Logger
    limiter: anyio.CapacityLimiter
    """Of threads."""

    async def start(self, id_: str, start: Callable[[], Awaitable[None]]) -> None:
        """Have the engine start a container; what is in its way ends first, and is no reason for an
        error then. Raises what `start` does."""
        patience: float | None = None
        while True:
            try:
                return await start()
            except BackendError as exc:
                if not self.is_local or not _EXISTS.search(str(exc)):
                    raise
                if patience is None:
                    if not await self._look(shims.is_half_begun, id_):
                        raise
                    patience = anyio.current_time() + _SETTLE_SECONDS
                    await self._end(id_)
                elif anyio.current_time() > patience:
                    raise
            # containerd hears that it has ended, and forgets it, too.
            await anyio.sleep(_PAUSE_SECONDS)

    async def end(self, id_: str, *, begun: bool) -> None:
        """End what there is of a container that was removed; of one that had begun, the engine has
        left no shim, and nobody looks for any."""
        look = shims.has_groups if begun else shims.is_left
        if self.is_local and await self._look(look, id_):
            await self._end(id_)

    async def _end(self, id_: str) -> None:
        if not await self._look(shims.end, id_):
            self.logger.warning("docker_container_left", extra={"id": id_})

    async def _look(self, call: Callable[[str], bool], id_: str) -> bool:
        return await anyio.to_thread.run_sync(call, id_, limiter=self.limiter)
