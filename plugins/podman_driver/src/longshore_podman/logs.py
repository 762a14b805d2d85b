"""What PID 1 wrote, read from the engine's log of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from longshore_core import BackendError, Chunk, Handle
from longshore_core.abc import LogStore

from longshore_podman.engine import Engine, Refusal
from longshore_podman.frames import Frames
from longshore_podman.lookup import Lookup


class PodmanLogs(LogStore):
    def __init__(self, engine: Engine, lookup: Lookup) -> None:
        self._engine = engine
        self._lookup = lookup

    @asynccontextmanager
    async def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[AsyncIterator[Chunk]]:
        """Read from byte `offset` on, counted from the beginning of the log that is kept: once it
        has grown past `log.max_size`, that is not the first byte ever written."""
        container = await self._lookup.own(handle)
        if container is None:
            raise BackendError(f"there is no container {handle.id}, and so no log of it")
        params = {"stdout": "true", "stderr": "true", "follow": str(follow).lower()}
        path = f"/containers/{container.id}/logs"
        try:
            async with self._engine.stream("GET", path, params=params) as answer:
                yield _chunks(self._engine.pieces(answer), offset)
        except Refusal as exc:
            raise BackendError(f"the log of container {handle.id} cannot be read: {exc}") from exc


async def _chunks(pieces: AsyncIterator[bytes], offset: int) -> AsyncGenerator[Chunk]:
    frames = Frames(skip=offset)
    async for piece in pieces:
        for chunk in frames.feed(piece):
            yield chunk
