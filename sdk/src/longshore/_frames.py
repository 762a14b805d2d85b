"""What a process writes, as the daemon sends it: frames of `application/vnd.longshore.frames`.

Eight bytes, and as many as they say: a kind, three zeros, the length (big-endian). Kinds 1 and 2
are bytes of standard output and standard error; kind 0 is an event, as JSON, or empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

EVENT: Final = 0
STREAMS: Final = {1: "stdout", 2: "stderr"}
MOST_BYTES: Final = 16 << 20
"""No daemon of ours sends a longer one: what says so is something else."""
_HEAD: Final = Struct(">B3sI")


class MalformedFrame(ValueError):
    """These bytes are no frames."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    data: bytes


class FrameReader:
    """Puts frames together from pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_between(self) -> bool:
        """Whether the last frame has come whole."""
        return not self._buffer

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The frames that are whole by now. Raises MalformedFrame."""
        self._buffer += piece
        while len(self._buffer) >= _HEAD.size:
            kind, zeros, length = _HEAD.unpack_from(self._buffer)
            if (kind != EVENT and kind not in STREAMS) or zeros != b"\0\0\0" or length > MOST_BYTES:
                raise MalformedFrame(f"no frame begins with {bytes(self._buffer[:8]).hex()}")
            if len(self._buffer) < _HEAD.size + length:
                return
            data = bytes(memoryview(self._buffer)[_HEAD.size : _HEAD.size + length])
            del self._buffer[: _HEAD.size + length]
            yield Frame(kind, data)
