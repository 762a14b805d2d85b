"""The engine's events: one stream for all who wait, however many containers there are.

What has happened is always looked up; events only say when to look. So after the stream was cut
off, everybody is told to look again, and nothing is lost with what nobody heard.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import anyio
from longshore_core import BackendError

from longshore_docker.specification import OWNER
from longshore_docker.streams import Streams

_HEARD: Final = {
    "type": ["container", "image"],
    "event": [
        *("die", "oom", "destroy", "exec_die"),
        *("pull", "load", "import", "tag", "untag", "delete"),
    ],
}
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_BACK_SECONDS: Final = 2.0
"""How far each connection begins before its time: the engine sends its answer's head before it
listens to itself."""


class Ear:
    """What somebody hears of one topic."""

    def __init__(self) -> None:
        self._news = anyio.Event()
        self.exit_code: int | None = None
        """Of a container that has ended meanwhile."""

    async def wait(self) -> None:
        """Until there is a reason to look again. The next call waits for the next one."""
        await self._news.wait()
        self._news = anyio.Event()

    def tell(self) -> None:
        self._news.set()


class Events:
    """Follows the engine for as long as it is run, through all its absences."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._ears = dict[str | None, set[Ear]]()
        self.cuts = 0
        """How often the stream has ended: since then, anything may have happened."""

    async def run(self) -> None:
        """Never ends, and never raises for the engine's sake."""
        pause = _FIRST_PAUSE
        while True:
            try:
                since = time.time() - _BACK_SECONDS
                async with self._streams.events(since, _HEARD) as events:
                    pause = _FIRST_PAUSE
                    for topic in self._ears:
                        self._tell(topic)
                    async for event in events:
                        self._hear(event)
            except BackendError:
                pass  # it is away: who asks the engine next is told, with the reason
            self.cuts += 1
            # Who waits for a container learns nothing new from that.
            self._tell(None)
            # It is down, and nothing tells when it is up again.
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def listening(self, topic: str | None = None) -> Generator[Ear]:
        """Hear of one container, by its name; of those of one owner; or of images and the engine
        itself."""
        ear = Ear()
        ears = self._ears.setdefault(topic, set())
        ears.add(ear)
        try:
            yield ear
        finally:
            ears.discard(ear)
            if not ears and self._ears.get(topic) is ears:
                del self._ears[topic]

    def _hear(self, event: Mapping[str, Any]) -> None:
        # Its time tells nothing of what was heard before: of two at once the later may come first,
        # and clocks are set back. What is heard twice is looked at twice.
        attributes = event.get("Actor", {}).get("Attributes", {})
        action = event.get("Action")
        if event.get("Type") == "image":
            self._tell(None)
            return
        if action != "exec_die" and OWNER in attributes:
            self._tell(attributes[OWNER])
        for ear in self._ears.get(attributes.get("name", ""), ()):
            if action == "die":
                ear.exit_code = int(attributes.get("exitCode", 0))
            ear.tell()

    def _tell(self, topic: str | None) -> None:
        for ear in self._ears.get(topic, ()):
            ear.tell()
