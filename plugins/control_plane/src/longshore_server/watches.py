"""Who waits for a sandbox to leave `pending`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from longshore_server.model import SandboxRecord


@dataclass(slots=True, eq=False)
class Watch:
    """Somebody waits for one sandbox."""

    latest: SandboxRecord | None = None
    changed: anyio.Event = field(default_factory=anyio.Event)


class Watches:
    """All who wait, by sandbox. Used from the event loop only."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = {}

    @contextmanager
    def of(self, sandbox_id: str) -> Generator[Watch, None, None]:
        """Be told of a sandbox's changes for as long as this is entered."""
        watch = Watch()
        self._watches.setdefault(sandbox_id, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[sandbox_id]
            watches.discard(watch)
            if not watches:
                del self._watches[sandbox_id]

    def tell(self, sandboxes: Mapping[str, SandboxRecord]) -> None:
        """These are durable now."""
        for sandbox_id in sandboxes.keys() & self._watches.keys():
            for watch in self._watches[sandbox_id]:
                watch.latest = sandboxes[sandbox_id]
                watch.changed.set()
                watch.changed = anyio.Event()

    def wake_all(self) -> None:
        """Let everybody look again, though nothing has changed."""
        for watch in [one for watches in self._watches.values() for one in watches]:
            watch.changed.set()
