"""What a process has written: the latest of it, as bytes on the disk, and the order they came in.

Three rings a process: its standard output, its standard error, and a record for each piece that
arrived, of either. Readers have places of their own, so that a slow one holds up nobody, and so
that between what was and what comes there is no gap to lose anything in. What one misses in the end
is what the rings had no room for, and that is told as a range of offsets.
"""

from __future__ import annotations

from struct import Struct
from time import time_ns

from longshore_daemon.inside.journal import note
from longshore_daemon.inside.loop import Bell
from longshore_daemon.inside.ring import Ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from longshore_daemon.inside.store import Store

STDOUT, STDERR, INDEX = 0, 1, 2
NAMES = ("stdout", "stderr")
PIECE = 65536
_RECORD = Struct("<QQQII")
_LEAST_RECORDS = 32768
"""An index is a quarter of its streams, but never less: pieces are as small as a writer likes."""
_LEAST = 1 << 20
"""So much a ring may take, even when there is no room left."""


def now_ms() -> int:
    return time_ns() // 1_000_000


class Chunk:
    """A record of the index: so many bytes of a stream came at once, then."""

    __slots__ = ("length", "ms", "number", "places", "stream")

    def __init__(self, number: int, record: bytes) -> None:
        fields: tuple[int, int, int, int, int] = _RECORD.unpack(record)
        self.number = number
        self.places = fields[:2]
        """How much of each stream had come before."""
        self.ms, self.length, self.stream = fields[2:]

    @property
    def start(self) -> int:
        """In its stream."""
        return self.places[self.stream]

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def total(self) -> int:
        """Where it begins among both streams."""
        return sum(self.places)

    @property
    def total_end(self) -> int:
        return self.total + self.length

    def end_of(self, stream: int) -> int:
        """How much of a stream had come after it."""
        return self.places[stream] + (self.length if stream == self.stream else 0)


class Output:
    """The writing side. `changed` rings when there is more, or when there will be no more."""

    __slots__ = (
        "_readers",
        "_removed",
        "_store",
        "changed",
        "closed",
        "lost_from",
        "rings",
        "sources",
    )

    def __init__(self, store: Store, limit: int) -> None:
        """Keeps `limit` bytes of each stream."""
        index = _RECORD.size * max(limit // 4 // _RECORD.size, _LEAST_RECORDS)
        self._store = store
        self.rings = [Ring(store, size) for size in (limit, limit, index)]
        self.closed = False
        """Whatever may come, nothing more is kept."""
        self._removed = False
        self._readers = 0
        self.lost_from: int | None = None
        """The place among both streams from which on nothing could be kept, if so it was."""
        self.changed = Bell()
        self.sources = 0
        """How many pipes still lead here."""

    @property
    def total(self) -> int:
        """How many bytes came, of both streams."""
        return self.rings[STDOUT].size + self.rings[STDERR].size

    @property
    def kept(self) -> int:
        """How many bytes it takes."""
        return 0 if self._removed else sum(ring.kept for ring in self.rings)

    def append(self, stream: int, data: bytes) -> None:
        """Keep `data`. A full disk ends the keeping, not the process that writes."""
        if not self.closed and not self._store.has_room():
            for ring in self.rings:
                ring.stop_growing(_LEAST)
        if self.closed:
            return
        total = self.total
        try:
            view = memoryview(data)
            while view:
                total = self.total
                places = self.rings[STDOUT].size, self.rings[STDERR].size
                length = self.rings[stream].append(view)
                record = memoryview(_RECORD.pack(*places, now_ms(), length, stream))
                while record:
                    record = record[self.rings[INDEX].append(record) :]
                view = view[length:]
        except OSError as exc:
            self.closed, self.lost_from = True, total
            note(f"output is kept no more: {exc.strerror}")
        self.changed.ring()

    def source_ended(self) -> None:
        self.sources -= 1
        self.close_unless_fed()
        self.changed.ring()

    def close_unless_fed(self) -> None:
        if not self.sources:
            self.closed = True

    def open(self) -> Reader:
        self._readers += 1
        return Reader(self)

    def leave(self) -> None:
        """A reader has enough."""
        self._readers -= 1
        self._close_unless_read()

    def remove(self) -> None:
        """Forget it all. Readers on their way go on to the end."""
        if not self._removed:
            self._store.bytes -= self.kept
            # Pieces may still come, to a process that was forgotten while its children write on.
            self.closed = self._removed = True
            self._close_unless_read()

    def _close_unless_read(self) -> None:
        if self._removed and not self._readers:
            for ring in self.rings:
                ring.close()


class Reader:
    """The reading side: a context manager. What was there stays within reach until it ends."""

    __slots__ = ("_output", "_rings")

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rings = output.rings

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._output.leave()

    def start(self, stream: int) -> int:
        """The first byte of a stream that is still there."""
        return self._rings[stream].start

    def size(self, stream: int) -> int:
        """How many bytes of a stream came by now."""
        return self._rings[stream].size

    def read(self, stream: int, start: int, end: int) -> bytes:
        """What is still there of those bytes: their end, if not all of them."""
        return self._rings[stream].read(start, end)

    def chunk(self, number: int) -> Chunk | None:
        """That record, or the first after it that is still there; `None`: it has not come yet."""
        index = self._rings[INDEX]
        number = max(number, index.start // _RECORD.size)
        if number >= index.size // _RECORD.size:
            return None
        place = number * _RECORD.size
        return Chunk(number, index.read(place, place + _RECORD.size))

    def find(self, offset: int) -> int:
        """The number of the first record that goes beyond that place among both streams."""
        return self._find(lambda chunk: chunk.total_end > offset)

    def whole_from(self) -> int:
        """The place among both streams from which on nothing is missing."""
        oldest = self.chunk(0)
        starts = [(stream, self.start(stream)) for stream in (STDOUT, STDERR)]
        capped = [self._place_of(stream, start) for stream, start in starts if start]
        return max([0 if oldest is None else oldest.total, *capped])

    def _place_of(self, stream: int, offset: int) -> int:
        """Where a byte of one stream is among both."""
        chunk = self.chunk(self._find(lambda chunk: chunk.end_of(stream) > offset))
        return 0 if chunk is None else chunk.total + offset - chunk.places[stream]

    def _find(self, is_reached: Callable[[Chunk], bool]) -> int:
        """The first record of which that holds, as it does for all that follow it."""
        low = self._rings[INDEX].start // _RECORD.size
        high = self._rings[INDEX].size // _RECORD.size
        while low < high:
            middle = (low + high) // 2
            chunk = self.chunk(middle)
            if chunk is None or is_reached(chunk):
                high = middle
            else:
                low = middle + 1
        return low
