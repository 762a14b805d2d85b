"""What processes have written by now: as lines, or byte for byte.

Lines are a view: split at LF or CR LF, bytes that are not UTF-8 replaced. They are sent in pieces,
so that one of any length passes through without ever being held.
"""

from __future__ import annotations

from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.jsontext import escaped, quoted
from longshore_daemon.inside.lines import Line, Lines
from longshore_daemon.inside.loop import pause
from longshore_daemon.inside.output import STDERR, STDOUT, Reader
from longshore_daemon.inside.process_routes import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.process import Process
    from longshore_daemon.inside.processes import Processes

_STREAMS = {"stdout": (STDOUT,), "stderr": (STDERR,), "output": (STDOUT, STDERR)}
_BATCH = 65536


class Batch:
    """Collects small pieces of an answer into ones worth sending."""

    __slots__ = ("_exchange", "_pieces", "_size")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._pieces: list[bytes] = []
        self._size = 0

    async def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _BATCH:
            await self.flush()

    async def add_line(self, before: bytes, lines: Lines, line: Line, after: bytes = b"") -> None:
        """The text of a line as a JSON string, and what is around it."""
        if (text := lines.whole(line)) is not None:
            await self.add(before + quoted(text) + after)
            return
        await self.add(before + b'"')
        for piece in escaped(lines.pieces(line)):
            await self.add(piece)
        await self.add(b'"' + after)

    async def flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        await self._exchange.send(data)


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
                end = reader.size(streams[0])
                start = await _open_raw(exchange, end)
                await exchange.stream.send_file(reader.descriptor(streams[0]), start, end)
            else:
                await _send_interleaved(exchange, reader)


async def _send_lines(exchange: Exchange, process: Process, lines: Lines) -> None:
    lines.stop_at_present()
    await exchange.open(200, "application/json", None)
    batch = Batch(exchange)
    await batch.add(b'{"pid":%d,"lines":[' % process.pid)
    count = 0
    while (found := lines.more()) is not None:
        count = await _add_lines(batch, lines, found, count)
        await pause()
    count = await _add_lines(batch, lines, lines.rest(), count)
    await batch.add(b'],"line_count":%d}' % count)
    await batch.flush()
    await exchange.close()


async def _add_lines(batch: Batch, lines: Lines, found: list[Line], count: int) -> int:
    for line in found:
        await batch.add_line(b"," if count else b"", lines, line)
        count += 1
    return count


def offset_of(exchange: Exchange) -> int:
    """The `offset` of the query, by default 0. Raises ApiError 400."""
    offset = exchange.head.query.get("offset", "0")
    if not offset.isdecimal() or len(offset) > 18:
        raise ApiError(400, "BAD_REQUEST", "offset: a number of bytes is wanted")
    return int(offset)


async def _open_raw(exchange: Exchange, end: int) -> int:
    """Begin an answer of the bytes from the query's `offset` on; what it is comes back."""
    start = min(offset_of(exchange), end)
    await exchange.open(200, "application/octet-stream", end - start)
    return start


async def _send_interleaved(exchange: Exchange, reader: Reader) -> None:
    chunks = reader.chunks()
    last = reader.chunk(chunks - 1) if chunks else None
    start = await _open_raw(exchange, last.total + last.length if last else 0)
    for number in range(reader.find(start), chunks):
        chunk = reader.chunk(number)
        skipped = max(0, start - chunk.total)
        first, past = chunk.start + skipped, chunk.start + chunk.length
        await exchange.send(reader.read(chunk.stream, first, past))
        await pause()
