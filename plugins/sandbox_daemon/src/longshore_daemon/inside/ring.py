"""The latest bytes of a stream, in a file that is written round and round.

Offsets count from the first byte that ever came, so what a reader has missed is always known. Bytes
are overwritten in place: whoever has waited looks at `start` again before it reads on.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.store import Store


class Ring:
    """Has a file from its first byte on, until `close`."""

    __slots__ = ("_file", "_store", "limit", "size")

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._file: int | None = None
        self.limit = limit
        self.size = 0
        """How many bytes came."""

    @property
    def start(self) -> int:
        """The first byte that is still there."""
        return max(0, self.size - self.limit)

    @property
    def kept(self) -> int:
        """How many bytes are still there."""
        return min(self.size, self.limit)

    def append(self, data: memoryview) -> int:
        """Keep some of it; how much. Raises OSError."""
        if self._file is None:
            self._file = self._store.open()
        place = self.size % self.limit
        before = self.kept
        length = os.pwrite(self._file, data[: self.limit - place], place)
        self.size += length
        self._store.bytes += self.kept - before
        return length

    def stop_growing(self, least: int) -> None:
        """Go round from here on, if there are so many bytes already."""
        if least <= self.size < self.limit:
            self.limit = self.size

    def read(self, start: int, end: int) -> bytes:
        """What is still there of those bytes: their end, if not all of them."""
        start = max(start, self.start)
        if start >= end or self._file is None:
            return b""
        place = start % self.limit
        data = os.pread(self._file, min(end - start, self.limit - place), place)
        beyond = end - start - len(data)
        return data + os.pread(self._file, beyond, 0) if beyond else data

    def close(self) -> None:
        """Nobody writes or reads any more."""
        if self._file is not None:
            self._store.close(self._file)
            self._file = None
