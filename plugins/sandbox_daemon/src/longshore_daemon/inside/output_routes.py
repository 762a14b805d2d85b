"""What processes have written by now: as lines, or byte for byte.

Lines are a view: split at LF or CR LF, bytes that are not UTF-8 replaced. They are sent in pieces,
so that one of any length passes through without ever being held.
"""

from __future__ import annotations

from time import monotonic

from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.jsontext import dumps, escaped, quoted
from longshore_daemon.inside.lines import Gap, Line, Lines
from longshore_daemon.inside.loop import pause
from longshore_daemon.inside.output import NAMES, STDERR, STDOUT, Reader
from longshore_daemon.inside.process_routes import find
from longshore_daemon.inside.stream import Disconnected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.process import Process
    from longshore_daemon.inside.processes import Processes

_STREAMS = {"stdout": (STDOUT,), "stderr": (STDERR,), "output": (STDOUT, STDERR)}
_BATCH = 65536


class Batch:
    """Collects small pieces of an answer into ones worth sending.

    Where nothing is sent for so many `seconds`, a `sign` of life is due.
    """

    __slots__ = ("_exchange", "_pieces", "_seconds", "_sign", "_size", "due")

    def __init__(
        self, exchange: Exchange, sign: bytes = b"", seconds: float = float("inf")
    ) -> None:
        self._exchange = exchange
        self._pieces: list[bytes] = []
        self._seconds = seconds
        self._sign = sign
        self._size = 0
        self.due = monotonic() + seconds
        """When the next sign of life is."""

    async def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _BATCH:
            await self.flush()

    async def add_line(
        self, before: bytes, lines: Lines, line: Line, after: bytes = b""
    ) -> Gap | None:
        """The text of a line as a JSON string, and what is around it; what it lacks comes back."""
        if (text := lines.whole(line)) is not None:
            await self.add(before + quoted(text) + after)
            return None
        await self.add(before + b'"')
        for piece in escaped(lines.pieces(line)):
            await self.add(piece)
        await self.add(b'"' + after)
        return lines.take_hole()

    async def flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if data:
            await self._exchange.send(data)
            self.due = monotonic() + self._seconds

    async def keep_alive(self) -> None:
        """Give the sign of life, if it is due: what comes may be nothing for this client."""
        if monotonic() >= self.due:
            self._pieces.append(self._sign)
            await self.flush()


def streams_of(kind: str) -> tuple[int, ...]:
    """Raises ApiError 404."""
    if kind not in _STREAMS:
        raise ApiError(404, "NOT_FOUND", f"there is no output named {kind}")
    return _STREAMS[kind]


class OutputRoutes:
    __slots__ = ("_processes",)

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def read(self, exchange: Exchange, pid: str, kind: str) -> None:
        """All that there is by now: `{"pid", "lines", "line_count"}`, or with `raw=1` the bytes."""
        process, streams = find(self._processes, pid), streams_of(kind)
        with process.output.open() as reader:
            if exchange.head.query.get("raw") not in ("1", "true"):
                await _send_lines(exchange, process, Lines(reader, streams))
            elif len(streams) == 1:
                await _send_stream(exchange, reader, streams[0])
            else:
                await _send_interleaved(exchange, reader)


async def _send_lines(exchange: Exchange, process: Process, lines: Lines) -> None:
    lines.stop_at(process.output.total)
    await exchange.open(200, "application/json", None)
    listing = _Listing(exchange)
    await listing.add(b'{"pid":%d,"lines":[' % process.pid)
    while (found := lines.more()) is not None:
        await listing.add_all(lines, found)
        await pause()
    await listing.add_all(lines, lines.rest())
    await listing.add(b'],"line_count":%d' % listing.count)
    if listing.gaps:
        await listing.add(b',"gaps":' + dumps(listing.gaps))
    await listing.add(b"}")
    await listing.flush()
    await exchange.close()


class _Listing(Batch):
    """Lines as a list. What is missing is told after it."""

    __slots__ = ("count", "gaps")

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.count = 0
        self.gaps: list[JSON] = []

    async def add_all(self, lines: Lines, found: Sequence[Line | Gap]) -> None:
        for line in found:
            gap = line if isinstance(line, Gap) else None
            if not isinstance(line, Gap):
                gap = await self.add_line(b"," if self.count else b"", lines, line)
                self.count += 1
            if gap is not None:
                self.gaps.append(describe(gap))


def describe(gap: Gap) -> dict[str, JSON]:
    return {"stream": NAMES[gap.stream], "from": gap.start, "to": gap.end}


def offset_of(exchange: Exchange) -> int:
    """The `offset` of the query, by default 0. Raises ApiError 400."""
    offset = exchange.head.query.get("offset", "0")
    if not offset.isdecimal() or len(offset) > 18:
        raise ApiError(400, "BAD_REQUEST", "offset: a number of bytes is wanted")
    return int(offset)


async def _open_raw(exchange: Exchange, first: int, end: int) -> int:
    """Begin an answer of the bytes from the query's `offset` on; what it is comes back.

    What is kept no more, before `first`, is told.
    """
    offset = offset_of(exchange)
    start = min(max(offset, first), end)
    missing = (("Longshore-Output-Gap", f"{offset}-{start}"),) if offset < start else ()
    await exchange.open(200, "application/octet-stream", end - start, *missing)
    return start


async def _send_stream(exchange: Exchange, reader: Reader, stream: int) -> None:
    end = reader.size(stream)
    start = await _open_raw(exchange, reader.start(stream), end)
    for position in range(start, end, _BATCH):
        await _send_bytes(exchange, reader, stream, position, min(position + _BATCH, end))


async def _send_interleaved(exchange: Exchange, reader: Reader) -> None:
    end = reader.size(STDOUT) + reader.size(STDERR)
    start = await _open_raw(exchange, reader.whole_from(), end)
    number = reader.find(start)
    while (chunk := reader.chunk(number)) is not None and chunk.total < end:
        if chunk.total > start:
            raise Disconnected("the reader has fallen behind the ring")
        first = chunk.start + start - chunk.total
        await _send_bytes(exchange, reader, chunk.stream, first, chunk.end)
        number, start = chunk.number + 1, chunk.total_end


async def _send_bytes(
    exchange: Exchange, reader: Reader, stream: int, start: int, end: int
) -> None:
    """Copied, and not sent from the file: the ring may be on its way round while they travel."""
    data = reader.read(stream, start, end)
    if len(data) < end - start:
        # So many bytes were announced. Who asks again from there on is told of the gap.
        raise Disconnected("the reader has fallen behind the ring")
    await exchange.send(data)
    await pause()
