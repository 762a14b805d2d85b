"""The latest bytes of a stream, in a file that is written round and round.

Offsets count from the first byte that ever came, so what a reader has missed is always known. Bytes
are overwritten in place: whoever has waited looks at `start` again before it reads on.
"""

from __future__ import annotations

import os


class Ring:
    """The writing side. The file is open until `close`."""

    __slots__ = ("_file", "limit", "path", "size")

    def __init__(self, path: str, limit: int) -> None:
        """Raises OSError."""
        self.path = path
        self.limit = limit
        self.size = 0
        """How many bytes came."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file: int | None = os.open(path, flags, 0o600)

    @property
    def start(self) -> int:
        """The first byte that is still there."""
        return max(0, self.size - self.limit)

    def append(self, data: memoryview) -> int:
        """Keep some of it; how much. Raises OSError."""
        if self._file is None:
            raise OSError("the ring is closed")
        place = self.size % self.limit
        length = os.pwrite(self._file, data[: self.limit - place], place)
        self.size += length
        return length

    def close(self) -> None:
        """Nothing more comes. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Who has it open can still read it. Idempotent."""
        self.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return


class RingReader:
    """The reading side, which holds the file open by itself."""

    __slots__ = ("_file", "ring")

    def __init__(self, ring: Ring) -> None:
        """Raises OSError."""
        self.ring = ring
        self._file = os.open(ring.path, os.O_RDONLY)

    def read(self, start: int, end: int) -> bytes:
        """What is still there of those bytes: their end, if not all of them."""
        start = max(start, self.ring.start)
        if start >= end:
            return b""
        place = start % self.ring.limit
        data = os.pread(self._file, min(end - start, self.ring.limit - place), place)
        beyond = end - start - len(data)
        return data + os.pread(self._file, beyond, 0) if beyond else data

    def close(self) -> None:
        os.close(self._file)
