"""How the engine mixes two streams into one: a header of eight bytes before each piece.

Pure: bytes in, chunks out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from longshore_core import BackendError, Chunk, Stream

_HEADER: Final = 8
_STREAMS: Final = (None, Stream.STDOUT, Stream.STDERR)
_LONGEST: Final = 1 << 26


class Frames:
    """Takes apart what comes, wherever it is cut, and counts the bytes of both streams."""

    def __init__(self, skip: int = 0) -> None:
        """`skip`: how many bytes of the streams are known already, and left out."""
        self._buffer = bytearray()
        self._position = 0
        self._skip = skip

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that have become complete. Raises BackendError for what is no frame."""
        self._buffer += data
        while len(self._buffer) >= _HEADER:
            kind = self._buffer[0]
            size = int.from_bytes(self._buffer[4:_HEADER], "big")
            if kind >= len(_STREAMS) or size > _LONGEST:
                raise BackendError("Podman sent output that cannot be taken apart")
            if len(self._buffer) < _HEADER + size:
                return
            content = bytes(self._buffer[_HEADER : _HEADER + size])
            del self._buffer[: _HEADER + size]
            # What goes to its input comes back as the first kind on some versions.
            if stream := _STREAMS[kind]:
                yield from self._chunk(stream, content)

    def _chunk(self, stream: Stream, content: bytes) -> Iterator[Chunk]:
        begin = self._position
        self._position += len(content)
        known = max(self._skip - begin, 0)
        if known < len(content):
            yield Chunk(stream, begin + known, content[known:])
