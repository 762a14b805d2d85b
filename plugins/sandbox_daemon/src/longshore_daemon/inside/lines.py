"""Output as lines: a view of the bytes, for those who want text."""

from __future__ import annotations

from longshore_daemon.inside.output import STDERR, STDOUT, Chunk, Reader

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


class Lines:
    """Finds the lines of some streams, in the order in which they were completed.

    Holds one chunk at a time: a line of any length is a pair of offsets.
    """

    __slots__ = (
        "_data",
        "_data_start",
        "_data_stream",
        "_end",
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
        self._open = [Line(STDOUT, 0, 0, 0), Line(STDERR, 0, 0, 0)]
        self._last = [0, 0]
        self._data, self._data_stream, self._data_start = b"", STDOUT, 0

    def stop_at_present(self) -> None:
        """What comes from now on is not looked at any more."""
        self._end = self._reader.chunks()

    def more(self) -> list[Line] | None:
        """The lines that the next chunk completes; `None` when no chunk has come since."""
        if self._next >= (self._reader.chunks() if self._end is None else self._end):
            return None
        chunk = self._reader.chunk(self._next)
        self._next += 1
        return self._split(chunk) if chunk.stream in self._streams else []

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
        return self._reader.pieces(line.stream, line.start, line.end)

    def _split(self, chunk: Chunk) -> list[Line]:
        stream, start = chunk.stream, chunk.start
        data = self._reader.read(stream, start, start + chunk.length)
        lines: list[Line] = []
        begin, position = self._open[stream].start, data.find(b"\n")
        while position >= 0:
            end = start + position
            before = data[position - 1] if position else self._last[stream]
            carriage_return = 1 if before == 13 and end > begin else 0
            lines.append(Line(stream, begin, end - carriage_return, chunk.ms))
            begin = end + 1
            position = data.find(b"\n", position + 1)
        self._open[stream] = Line(stream, begin, start + chunk.length, chunk.ms)
        self._last[stream] = data[-1]
        self._data, self._data_stream, self._data_start = data, stream, start
        return lines
