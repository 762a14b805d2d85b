"""One stream of the engine's events, for all who wait for anything.

An event says only that it is time to look: whoever waits asks the engine how things stand, and
asks again whenever the stream was interrupted, since what happened meanwhile is not told twice.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import anyio
from longshore_core import BackendError

from longshore_podman.engine import Engine

_OF_CONTAINERS: Final = ("died", "cleanup", "remove")
_OF_IMAGES: Final = ("pull", "import", "load", "loadfromarchive", "tag", "untag", "build", "save")
_FILTERS: Final = json.dumps(
    {"type": ["container", "image"], "event": [*_OF_CONTAINERS, *_OF_IMAGES]}
)
_OVERLAP_SECONDS: Final = 2
"""How far a new stream reaches back: it begins a moment after it was asked for."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class Events:
    """Follows the engine for as long as `run` does."""

    def __init__(self, engine: Engine, logger: logging.Logger) -> None:
        self._engine = engine
        self._logger = logger
        self._waiting: dict[str, set[anyio.Event]] = {}
        self._changed = anyio.Event()
        self.told = 0
        """How often something was heard that concerns containers: what was seen before holds for as
        long as this stands still."""
        self.failure = "not connected yet"
        """Why the engine cannot be followed right now; empty while it is."""

    @contextmanager
    def hearing(self, id_: str) -> Generator[anyio.Event]:
        """An event that is set when the container may have ended, or events may have been missed.

        Taken before looking, so that nothing falls between.
        """
        heard = anyio.Event()
        self._waiting.setdefault(id_, set()).add(heard)
        try:
            yield heard
        finally:
            waiting = self._waiting[id_]
            waiting.discard(heard)
            if not waiting:
                del self._waiting[id_]

    @property
    def changed(self) -> anyio.Event:
        """Set at the next change of the engine's health or images; then there is another."""
        return self._changed

    async def run(self) -> None:
        """Follow the stream, again whenever it breaks off. Never ends by itself."""
        pause = _FIRST_PAUSE
        while True:
            connected = anyio.current_time()
            try:
                await self._follow()
                failure = f"Podman at {self._engine.address} has ended its events"
            except BackendError as exc:
                failure = str(exc)
            if failure != self.failure:
                self._logger.warning("podman_events_lost", extra={"why": failure})
                self.failure = failure
                self._tell_change()
            if anyio.current_time() - connected > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            # There is nothing to wait on but time: nobody tells when an engine comes back.
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _follow(self) -> None:
        since = str(int(time.time()) - _OVERLAP_SECONDS)
        params = {"stream": "true", "since": since, "filters": _FILTERS}
        async with self._engine.stream("GET", "/events", params=params) as answer:
            self.failure = ""
            self._tell_change()
            self.told += 1
            for id_ in list(self._waiting):
                self._tell(id_)
            async for event in self._engine.objects(answer):
                if event.get("Type") == "container":
                    self._tell(event["Actor"]["ID"])
                else:
                    self._tell_change()

    def _tell(self, id_: str) -> None:
        self.told += 1
        for heard in self._waiting.get(id_, ()):
            heard.set()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
