"""Output as lines: a view of the bytes, for those who want text."""

from __future__ import annotations

from longshore_daemon.inside.output import PIECE, STDERR, STDOUT, Chunk, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Line:
    """Where a line is: bytes `start` to `end` of a stream, without its end-of-line."""

    __slots__ = ("end", "ms", "start", "stream")

    def __init__(self, stream: int, start: int, end: int, ms: int) -> None:
        self.stream = stream
        self.start = start
        self.end = end
        self.ms = ms


class Gap:
    """Bytes `start` to `end` of a stream, which are kept no more and were not shown."""

    __slots__ = ("end", "start", "stream")

    def __init__(self, stream: int, start: int, end: int) -> None:
        self.stream = stream
        self.start = start
        self.end = end


class Lines:
    """Finds the lines of some streams, in the order in which they were completed.

    Holds one chunk at a time: a line of any length is a pair of offsets. What the rings have room
    for no more is missing from them, and comes as gaps.
    """

    __slots__ = (
        "_data",
        "_data_start",
        "_data_stream",
        "_end",
        "_hole",
        "_last",
        "_next",
        "_open",
        "_reader",
        "_streams",
    )

    def __init__(self, reader: Reader, streams: tuple[int, ...]) -> None:
        self._reader = reader
        self._streams = streams
        self._next = 0
        self._end: int | None = None
        self._hole: Gap | None = None
        self._open = [Line(STDOUT, 0, 0, 0), Line(STDERR, 0, 0, 0)]
        self._last = [0, 0]
        self._data, self._data_stream, self._data_start = b"", STDOUT, 0

    def stop_at(self, total: int) -> None:
        """What comes from there on, among both streams, is not looked at."""
        self._end = total

    def more(self) -> list[Line | Gap] | None:
        """The lines that the next chunk completes, after what is missing before it; `None` when no
        chunk has come since. What was found before is not at hand any more then."""
        chunk = self._reader.chunk(self._next)
        if chunk is None or (self._end is not None and chunk.total >= self._end):
            return None
        self._next = chunk.number + 1
        start = max(chunk.start, self._reader.start(chunk.stream))
        if chunk.stream not in self._streams or start >= chunk.end:
            return []
        return [*self._skip_to(start, chunk), *self._split(start, chunk)]

    def rest(self) -> list[Line]:
        """What no newline has ended. Ask last."""
        lines = [self._open[stream] for stream in self._streams]
        return [line for line in lines if line.end > line.start]

    def whole(self, line: Line) -> bytes | None:
        """The line, when it is at hand, as all are that lie in the latest chunk."""
        offset = line.start - self._data_start
        if line.stream == self._data_stream and offset >= 0:
            return self._data[offset : line.end - self._data_start]
        return None

    def pieces(self, line: Line) -> Iterator[bytes]:
        """What is there of it, whenever the next piece is asked for."""
        for position in range(line.start, line.end, PIECE):
            end = min(position + PIECE, line.end)
            first = min(max(position, self._reader.start(line.stream)), end)
            if first > position:
                start = position if self._hole is None else self._hole.start
                self._hole = Gap(line.stream, start, first)
            yield self._reader.read(line.stream, first, end)

    def take_hole(self) -> Gap | None:
        """What was missing from the line whose pieces were taken last."""
        hole, self._hole = self._hole, None
        return hole

    def _skip_to(self, start: int, chunk: Chunk) -> list[Gap]:
        """A line of which something has gone is not put together of what came before and after."""
        line = self._open[chunk.stream]
        if start <= line.end:
            return []
        self._open[chunk.stream] = Line(chunk.stream, start, start, chunk.ms)
        self._last[chunk.stream] = 0
        return [Gap(chunk.stream, line.start, start)]

    def _split(self, start: int, chunk: Chunk) -> list[Line]:
        stream = chunk.stream
        data = self._reader.read(stream, start, chunk.end)
        lines: list[Line] = []
        begin, position = self._open[stream].start, data.find(b"\n")
        while position >= 0:
            end = start + position
            before = data[position - 1] if position else self._last[stream]
            carriage_return = 1 if before == 13 and end > begin else 0
            lines.append(Line(stream, begin, end - carriage_return, chunk.ms))
            begin = end + 1
            position = data.find(b"\n", position + 1)
        self._open[stream] = Line(stream, begin, chunk.end, chunk.ms)
        self._last[stream] = data[-1]
        self._data, self._data_stream, self._data_start = data, stream, start
        return lines
