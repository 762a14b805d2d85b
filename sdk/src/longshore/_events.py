"""Server-sent events, as the daemon writes them: `event:` and `data:` in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MOST_BYTES: Final = 1 << 20
"""No event of the daemon's is longer: what is, is something else's."""


class MalformedEvent(ValueError):
    """These bytes are no events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    name: str
    data: str


class EventReader:
    """Puts events together from pieces of any size. Comments are passed over."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that are whole by now. Raises MalformedEvent."""
        *blocks, self._buffer = (self._buffer + piece).split(b"\n\n")
        if len(self._buffer) > MOST_BYTES:
            raise MalformedEvent(f"no event is longer than {MOST_BYTES} bytes")
        for block in blocks:
            name, data = "message", list[str]()
            for line in block.decode("utf-8", "replace").split("\n"):
                field, _, value = line.partition(":")
                if field == "event":
                    name = value.removeprefix(" ")
                elif field == "data":
                    data.append(value.removeprefix(" "))
            if data:
                yield Event(name=name, data="\n".join(data))
