"""What processes write, byte for byte and as it comes: `application/vnd.longshore.frames`.

A frame is eight bytes, and as much as they say: its kind, three zeros, the length (big-endian).
Kinds 1 and 2 are bytes of standard output and of standard error, in the order in which they came;
kind 0 is an event, a JSON object, or nothing at all to say that the connection still stands.
"""

from __future__ import annotations

from struct import Struct
from time import monotonic

from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.follow_routes import LINGER_SECONDS, outcome, wait_for_more
from longshore_daemon.inside.jsontext import dumps
from longshore_daemon.inside.loop import pause
from longshore_daemon.inside.output_routes import Batch, offset_of
from longshore_daemon.inside.process_routes import find, read_run, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.output import Reader
    from longshore_daemon.inside.process import Process
    from longshore_daemon.inside.processes import Processes

_HEAD = Struct(">BxxxI")
_EVENT, _OUTPUT = 0, 1
_KEEPALIVE_SECONDS = 5.0
_NEVER = float("inf")


class FrameRoutes:
    __slots__ = ("_processes",)

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def follow(self, exchange: Exchange, pid: str) -> None:
        """From byte `offset` of all that came, on; for `seconds`, or until the process has ended.

        The last event has its outcome, or is `{"more": true}` when the seconds are over.
        """
        process = find(self._processes, pid)
        offset, seconds = offset_of(exchange), _seconds_of(exchange)
        with process.output.open() as reader:
            await _open(exchange)
            frames = _Frames(exchange, reader, offset)
            await frames.send_all(process, monotonic() + seconds)
            await exchange.close()

    async def run(self, exchange: Exchange) -> None:
        """Start a process and follow it: an event with its pid first, the outcome last.

        The client may hang up: the process goes on, for as long as its timeout lets it.
        """
        process = await start(self._processes, exchange, read_run)
        with process.output.open() as reader:
            await _open(exchange)
            frames = _Frames(exchange, reader, 0)
            await frames.add_event({"pid": process.pid, "started_at": process.started_at})
            await frames.send_all(process, _NEVER)
            await exchange.close()


async def _open(exchange: Exchange) -> None:
    kind = "application/vnd.longshore.frames"
    await exchange.open(200, kind, None, ("Cache-Control", "no-cache"))


def _seconds_of(exchange: Exchange) -> float:
    text = exchange.head.query.get("seconds")
    if text is None:
        return _NEVER
    whole, _, part = text.partition(".")
    if not whole.isdecimal() or not (part or "0").isdecimal() or len(text) > 18:
        raise ApiError(400, "BAD_REQUEST", "seconds: a number of seconds is wanted")
    return float(text)


class _Frames:
    """Sends what a reader finds, from a byte of all that came on."""

    __slots__ = ("_batch", "_exchange", "_next", "_offset", "_reader")

    def __init__(self, exchange: Exchange, reader: Reader, offset: int) -> None:
        self._exchange = exchange
        self._batch = Batch(exchange, _HEAD.pack(_EVENT, 0), _KEEPALIVE_SECONDS)
        self._reader = reader
        self._offset = offset
        self._next = reader.find(offset)

    async def send_all(self, process: Process, last_moment: float) -> None:
        """To the end of the process and, briefly, of those who hold its output; or until then."""
        end_of_patience = _NEVER
        while True:
            await self._send_present(process, last_moment)
            if not process.running:
                end_of_patience = min(end_of_patience, monotonic() + LINGER_SECONDS)
                if not process.output.sources or monotonic() >= end_of_patience:
                    await self.add_event(outcome(process))
                    break
            if monotonic() >= last_moment:
                await self.add_event({"more": True})
                break
            end = min(last_moment, end_of_patience)
            await wait_for_more(process, self._exchange, self._batch, end)
        await self._batch.flush()

    async def add_event(self, event: JSON) -> None:
        data = dumps(event)
        await self._batch.add(_HEAD.pack(_EVENT, len(data)) + data)

    async def _send_present(self, process: Process, last_moment: float) -> None:
        """All that has come; of what comes without end, what had come by the last moment."""
        end = _NEVER
        while (chunk := self._reader.chunk(self._next)) is not None and chunk.total < end:
            self._next = chunk.number + 1
            skipped = max(0, self._offset - chunk.total)
            data = self._reader.read(chunk.stream, chunk.start + skipped, chunk.end)
            if data:
                place = chunk.total_end - len(data)
                if self._offset < place:
                    await self.add_event({"gap": {"from": self._offset, "to": place}})
                await self._batch.add(_HEAD.pack(_OUTPUT + chunk.stream, len(data)) + data)
                self._offset = chunk.total_end
            if end == _NEVER and monotonic() >= last_moment:
                end = process.output.total
            await self._batch.keep_alive()
            await pause()
        await self._batch.flush()
