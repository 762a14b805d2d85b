"""What processes write, as it comes: server-sent events.

Followers read from the files, from the beginning on: nothing is lost between what was there and
what comes, and how slow one is concerns nobody else.
"""

from __future__ import annotations

from time import monotonic

from longshore_daemon.inside.exchange import Exchange
from longshore_daemon.inside.jsontext import dumps
from longshore_daemon.inside.lines import Gap, Line, Lines
from longshore_daemon.inside.loop import Wait, pause
from longshore_daemon.inside.output import STDERR, STDOUT
from longshore_daemon.inside.output_routes import Batch, describe, streams_of
from longshore_daemon.inside.process_routes import find, read_run, start
from longshore_daemon.inside.stream import Disconnected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.process import Process
    from longshore_daemon.inside.processes import Processes

_NAMES = (b'"stdout"', b'"stderr"')
_KEEPALIVE_SECONDS = 15.0
LINGER_SECONDS = 0.5
"""How long `run` stays, after the end of the process, for children that hold its output open."""


class FollowRoutes:
    __slots__ = ("_processes",)

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def follow(self, exchange: Exchange, pid: str, kind: str) -> None:
        """What there is, what comes, and `eof` when the last who could write has ended."""
        process, streams = find(self._processes, pid), streams_of(kind)
        with process.output.open() as reader:
            await _open(exchange)
            events = _Events(exchange, Lines(reader, streams))
            events.prefix = b"event: output\n"
            events.named = len(streams) > 1
            await events.send_all(process, float("inf"))
            # Without the space, which SSE leaves to the sender: to clients of the field that look
            # for `data: `, every such line is a line of output.
            await exchange.send(b"event: eof\ndata:" + dumps(_losses(process)) + b"\n\n")
            await exchange.close()

    async def run(self, exchange: Exchange) -> None:
        """Start a process and follow it: its pid, its lines, its end.

        The client may hang up: the process goes on, for as long as its timeout lets it.
        """
        process = await start(self._processes, exchange, read_run)
        with process.output.open() as reader:
            await _open(exchange)
            await _send(exchange, {"pid": process.pid, "started_at": process.started_at})
            events = _Events(exchange, Lines(reader, (STDOUT, STDERR)))
            await events.send_all(process, LINGER_SECONDS)
            await _send(exchange, outcome(process))
            await exchange.close()


async def _open(exchange: Exchange) -> None:
    await exchange.open(200, "text/event-stream", None, ("Cache-Control", "no-cache"))


async def _send(exchange: Exchange, data: JSON) -> None:
    await exchange.send(b"data: " + dumps(data) + b"\n\n")


def outcome(process: Process) -> dict[str, JSON]:
    """How it ended."""
    told: dict[str, JSON] = {}
    if process.signal is None:
        told["exit_code"] = process.exit_code
    else:
        told["signal"] = process.signal
    if process.timed_out:
        told["timed_out"] = True
    return told | _losses(process)


def _losses(process: Process) -> dict[str, JSON]:
    """What of its output could not be kept: all from a place among both streams on."""
    lost_from = process.output.lost_from
    return {} if lost_from is None else {"output_lost": True, "output_lost_from": lost_from}


async def wait_for_more(
    process: Process, exchange: Exchange, batch: Batch, last_moment: float
) -> None:
    """Until there may be more, or the last moment. Raises Disconnected."""
    gone = exchange.stream.gone
    wait = Wait(gone, bells=(process.output.changed,), deadline=min(batch.due, last_moment))
    await wait
    if wait.fired == gone[0]:
        raise Disconnected("the follower hung up")
    await batch.keep_alive()


class _Events:
    """Sends lines as events, from the first one on and as they come."""

    __slots__ = ("_batch", "_exchange", "_lines", "named", "prefix")

    def __init__(self, exchange: Exchange, lines: Lines) -> None:
        self._exchange = exchange
        self._batch = Batch(exchange, b":\n\n", _KEEPALIVE_SECONDS)
        self._lines = lines
        self.prefix = b""
        self.named = True
        """Whether each says of which stream it is."""

    async def send_all(self, process: Process, linger_seconds: float) -> None:
        """To the end of the output, or until so long after the end of the process."""
        last_moment = float("inf")
        while True:
            await self._send_present()
            if not process.running:
                last_moment = min(last_moment, monotonic() + linger_seconds)
                if not process.output.sources or monotonic() >= last_moment:
                    break
            await wait_for_more(process, self._exchange, self._batch, last_moment)
        for line in self._lines.rest():
            await self._add(line)
        await self._batch.flush()

    async def _send_present(self) -> None:
        while (found := self._lines.more()) is not None:
            for line in found:
                await self._add(line)
            await self._batch.keep_alive()
            await pause()
        await self._batch.flush()

    async def _add(self, line: Line | Gap) -> None:
        if isinstance(line, Gap):
            await self._add_gap(line)
            return
        before = self.prefix + b'data: {"line":'
        stream = b',"stream":' + _NAMES[line.stream] if self.named else b""
        after = b',"timestamp":%d%b}\n\n' % (line.ms, stream)
        hole = await self._batch.add_line(before, self._lines, line, after)
        if hole is not None:
            await self._add_gap(hole)

    async def _add_gap(self, gap: Gap) -> None:
        if self.prefix:
            await self._batch.add(b"event: gap\ndata: " + dumps(describe(gap)) + b"\n\n")
        else:
            await self._batch.add(b"data: " + dumps({"gap": describe(gap)}) + b"\n\n")
