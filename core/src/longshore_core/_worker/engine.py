"""A driver's engine as the worker sees it: how it does, and the images that it brings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import anyio
import structlog

from longshore_core._errors import LongshoreError
from longshore_core._model import Fingerprint, PullProgress
from longshore_core._plugins.opening import AdaptedDriver

RETRY_SECONDS: Final = 5.0
PROGRESS_SECONDS: Final = 5.0
_MIB: Final = 1 << 20

log = structlog.stdlib.get_logger("longshore_core.engine")


class EngineWatch:
    """The latest fingerprint of a driver's engine. `None`: the driver tells nothing of it."""

    def __init__(self, driver: AdaptedDriver) -> None:
        self._driver = driver
        self.latest: Fingerprint | None = None

    @property
    def complaint(self) -> str | None:
        """Why nothing can be started now; `None` when nothing speaks against it."""
        latest = self.latest
        if latest is None or latest.healthy:
            return None
        return f"the engine is not well: {latest.reason}"

    async def follow(self) -> None:
        """Keep up with the engine. For ever; at once over for a driver without fingerprints."""
        if self._driver.runtime.health is None:
            return
        while True:
            try:
                async with self._driver.fingerprints() as fingerprints:
                    async for fingerprint in fingerprints:
                        self._take(fingerprint)
                log.warning("The driver has stopped to tell of its engine")
            except LongshoreError as exc:
                log.warning("The driver cannot tell of its engine", why=str(exc))
            await anyio.sleep(RETRY_SECONDS)

    def _take(self, fingerprint: Fingerprint) -> None:
        before, self.latest = self.latest, fingerprint
        if before is not None and before.healthy == fingerprint.healthy:
            return
        if fingerprint.healthy:
            log.info("The engine is well", engine=fingerprint.engine)
        else:
            log.warning("The engine is not well", reason=fingerprint.reason)


class PullLog:
    """Tells of a pull every few seconds, and of none that needed no time."""

    def __init__(self, container_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log.bind(container_id=container_id)
        self._clock = clock
        self._due: float | None = None

    def __call__(self, progress: PullProgress) -> None:
        now = self._clock()
        if self._due is not None and now < self._due:
            return
        done, total = progress.done_bytes // _MIB, progress.total_bytes
        of = {} if total is None else {"total_mib": total // _MIB}
        self._log.info("Pulling an image", image=progress.reference, done_mib=done, **of)
        self._due = now + PROGRESS_SECONDS
