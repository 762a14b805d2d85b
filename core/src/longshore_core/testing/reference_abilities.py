"""What the model can do beside containers, each as small as its laws allow."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from longshore_core._errors import BackendError, ImageError
from longshore_core._model import Chunk, Fingerprint, Handle, PullProgress, Usage
from longshore_core.abc import HealthStream, ImageStore, LogStore, Meter, Pauser
from longshore_core.testing.output import chunks_from
from longshore_core.testing.reference_driver import Modelled, ReferenceDriver

_REFERENCE: Final = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*(:[\w.-]+)?")
_NOWHERE: Final = "127.0.0.1:1/"
_SIZE: Final = 3
_LOOK_SECONDS: Final = 0.01


class ModelImages(ImageStore):
    """Has every image that has a proper name, once it was pulled."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self._pulls: dict[str, anyio.Lock] = {}
        self._listeners: dict[str, list[Callable[[PullProgress], None]]] = {}

    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        if not _REFERENCE.fullmatch(reference):
            raise ImageError(f"{reference!r} is no image reference")
        if reference.startswith(_NOWHERE):
            raise ImageError(f"no registry answers for {reference}", retryable=True)
        listeners = self._listeners.setdefault(reference, [])
        listeners.append(progress)
        try:
            # Who holds it pulls; when that one is cancelled, the next goes on.
            async with self._pulls.setdefault(reference, anyio.Lock()):
                if reference not in self.there:
                    await self.pull(reference, listeners)
        finally:
            listeners.remove(progress)

    async def pull(self, reference: str, listeners: list[Callable[[PullProgress], None]]) -> None:
        for done in range(_SIZE + 1):
            await checkpoint()
            for tell in list(listeners):
                tell(PullProgress(reference=reference, done_bytes=done, total_bytes=_SIZE))
        self.there.add(reference)


class ModelHealth(HealthStream):
    """Well, unless the driver's engine is away."""

    def __init__(self, driver: ReferenceDriver, images: ModelImages) -> None:
        self._driver = driver
        self._images = images

    @asynccontextmanager
    async def fingerprints(self) -> AsyncGenerator[AsyncIterator[Fingerprint]]:
        async with aclosing(self.follow()) as fingerprints:
            yield fingerprints

    def fingerprint(self) -> Fingerprint:
        try:
            self._driver.ask_engine()
        except BackendError as exc:
            return Fingerprint(healthy=False, reason=str(exc))
        images = tuple(sorted(self._images.there))
        return Fingerprint(healthy=True, engine="Model 1.0", images=images)

    async def follow(self) -> AsyncGenerator[Fingerprint]:
        last: Fingerprint | None = None
        while True:
            now = self.fingerprint()
            if now != last:
                last = now
                yield now
            # Its engine is a file, which tells nobody when it comes.
            await anyio.sleep(_LOOK_SECONDS)


class ModelPauser(Pauser):
    def __init__(self, driver: ReferenceDriver) -> None:
        self.driver = driver

    async def pause(self, handle: Handle) -> None:
        self.driver.pause(self.driver.running(handle))
        await checkpoint()

    async def resume(self, handle: Handle) -> None:
        self.driver.resume(self.driver.running(handle))
        await checkpoint()


class ModelMeter(Meter):
    def __init__(self, driver: ReferenceDriver) -> None:
        self.driver = driver

    async def usage(self, handle: Handle) -> Usage:
        self.driver.running(handle)
        await checkpoint()
        return Usage(cpu_seconds=0.0, memory_bytes=1 << 20, pids=1)


class ModelLogs(LogStore):
    def __init__(self, driver: ReferenceDriver) -> None:
        self.driver = driver

    def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        return aclosing(self._chunks(handle, offset, follow))

    async def _chunks(self, handle: Handle, offset: int, follow: bool) -> AsyncGenerator[Chunk]:
        container = self.driver.known(handle)
        await checkpoint()
        if container is None:
            raise BackendError(f"there is no container {handle.id} whose logs could be read")
        lines = self.lines(container, offset)
        told = 0
        while True:
            for chunk in lines[told:]:
                yield chunk
            told = len(lines)
            if not follow or container.ended.is_set():
                return
            await self.driver.change(container)
            lines = self.lines(container, offset)

    def lines(self, container: Modelled, offset: int) -> list[Chunk]:
        """What it has written from a byte on, in pieces."""
        return chunks_from(container.record.output, offset)
