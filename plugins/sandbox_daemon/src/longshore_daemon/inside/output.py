"""What a process has written: bytes in files, and an index of the order in which they came.

Three files a process: its standard output, its standard error, and a record for each piece that
arrived, of either. Readers have descriptors and offsets of their own, so that a slow one holds up
nobody, and so that between what was and what comes there is no gap to lose anything in.
"""

from __future__ import annotations

import os
from struct import Struct
from time import time_ns

from longshore_daemon.inside.journal import note
from longshore_daemon.inside.loop import Bell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT, STDERR, INDEX = 0, 1, 2
NAMES = ("stdout", "stderr", "index")
PIECE = 65536
_RECORD = Struct("<QQQII")


def now_ms() -> int:
    return time_ns() // 1_000_000


class Chunk:
    """A record of the index: so many bytes of a stream came at once, then."""

    __slots__ = ("length", "ms", "start", "stream", "total")

    def __init__(self, record: bytes) -> None:
        self.total: int
        self.start: int
        self.ms: int
        self.length: int
        self.stream: int
        self.total, self.start, self.ms, self.length, self.stream = _RECORD.unpack(record)


class Output:
    """The writing side. `changed` rings when there is more, or when there will be no more."""

    __slots__ = ("_files", "_prefix", "_sizes", "_total", "broken", "changed", "lost", "sources")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._sizes = [0, 0]
        self._total = 0
        self._files: list[int] = []
        self.broken = False
        self.lost = False
        """Whether something that was written could not be kept."""
        self.changed = Bell()
        self.sources = 0
        """How many pipes still lead here."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            for name in NAMES:
                self._files.append(os.open(f"{prefix}.{name}", flags, 0o600))
        except OSError:
            self.remove()
            raise

    def append(self, stream: int, data: bytes) -> None:
        """Keep `data`. A full disk ends the keeping, not the process that writes."""
        if self.broken:
            return
        try:
            view = memoryview(data)
            while view:
                length = os.write(self._files[stream], view)
                record = _RECORD.pack(self._total, self._sizes[stream], now_ms(), length, stream)
                os.write(self._files[INDEX], record)
                self._sizes[stream] += length
                self._total += length
                view = view[length:]
        except OSError as exc:
            self.broken = self.lost = True
            note(f"output is kept no more: {exc.strerror}")
        self.changed.ring()

    def source_ended(self) -> None:
        self.sources -= 1
        self.close_unless_fed()
        self.changed.ring()

    def close_unless_fed(self) -> None:
        if not self.sources:
            self._close()

    def open(self) -> Reader:
        return Reader(self._prefix)

    def remove(self) -> None:
        """Forget it all. Readers on their way go on to the end."""
        self._close()
        for name in NAMES:
            try:
                os.unlink(f"{self._prefix}.{name}")
            except FileNotFoundError:
                continue

    def _close(self) -> None:
        while self._files:
            os.close(self._files.pop())
        # Pieces may still come, to a process that was forgotten while its children write on.
        self.broken = True


class Reader:
    """The reading side: a context manager that holds the three files open."""

    __slots__ = ("_files",)

    def __init__(self, prefix: str) -> None:
        self._files: list[int] = []
        try:
            for name in NAMES:
                self._files.append(os.open(f"{prefix}.{name}", os.O_RDONLY))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())

    def chunks(self) -> int:
        """How many records there are by now."""
        return os.fstat(self._files[INDEX]).st_size // _RECORD.size

    def chunk(self, number: int) -> Chunk:
        return Chunk(os.pread(self._files[INDEX], _RECORD.size, number * _RECORD.size))

    def size(self, stream: int) -> int:
        return os.fstat(self._files[stream]).st_size

    def descriptor(self, stream: int) -> int:
        return self._files[stream]

    def read(self, stream: int, start: int, end: int) -> bytes:
        return os.pread(self._files[stream], end - start, start)

    def pieces(self, stream: int, start: int, end: int) -> Iterator[bytes]:
        for position in range(start, end, PIECE):
            yield self.read(stream, position, min(position + PIECE, end))

    def find(self, offset: int) -> int:
        """The number of the chunk that holds byte `offset` of all that came."""
        low, high = 0, self.chunks()
        while low < high:
            middle = (low + high) // 2
            chunk = self.chunk(middle)
            if chunk.total + chunk.length <= offset:
                low = middle + 1
            else:
                high = middle
        return low
