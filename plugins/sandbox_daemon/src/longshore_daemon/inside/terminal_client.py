"""One who looks on at a terminal over a WebSocket, and types.

The first byte of a message says what it is. The client speaks first: nothing is shown to it until
it is ready. From then on it sees all that the terminal showed, and shows, without a gap: where that
cannot be, the connection is closed with the reason.
"""

from __future__ import annotations

import os
from struct import pack, unpack
from time import monotonic

from longshore_daemon.inside.loop import GONE, WRITE, Wait, pause
from longshore_daemon.inside.stream import Disconnected
from longshore_daemon.inside.terminal import HISTORY, Onlooker, Size
from longshore_daemon.inside.websocket import (
    BINARY,
    GOING_AWAY,
    NORMAL,
    POLICY,
    TOO_BIG,
    Piece,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.channel import Channel
    from longshore_daemon.inside.terminal import Terminal

DATA, RESIZE, READY, EXIT = b"\x00", b"\x01", b"\x02", b"\x03"
MESSAGE_LIMIT = 65536
_INPUT_LIMIT = 1 << 20
_INPUT_SECONDS = 1.0
_LAG_UNIT = 4096


class Client:
    """Served by one task, from the handshake to the end."""

    __slots__ = (
        "_attached_at",
        "_channel",
        "_counted",
        "_input",
        "_keyboard",
        "_message",
        "_onlooker",
        "_since",
        "_terminal",
    )

    def __init__(self, channel: Channel, terminal: Terminal) -> None:
        self._channel = channel
        self._terminal = terminal
        self._onlooker = Onlooker()
        self._attached_at = terminal.total
        self._message = bytearray()
        self._input = bytearray()
        """What was typed, and the program has not taken yet."""
        self._keyboard: int | None = None
        self._counted, self._since = 0, 0.0

    async def serve(self) -> None:
        """Until either side has enough. Raises Disconnected when the client has gone."""
        if self._terminal.master is not None:
            # Several may wait until the program reads, each with a descriptor of its own.
            self._keyboard = os.dup(self._terminal.master)
        self._terminal.attend(self._onlooker)
        try:
            while not self._channel.finished:
                self._receive()
                self._type()
                self._show()
                queued = self._channel.backlog
                self._channel.flush()
                if queued and not self._channel.backlog:
                    # All has gone: there may be more, or the end.
                    await pause()
                elif not self._channel.finished:
                    await self._wait()
        finally:
            self._terminal.leave(self._onlooker)
            self._unplug()

    def _receive(self) -> None:
        if self._input:
            # It types faster than the program reads: it waits, and nobody else does.
            return
        for piece in self._channel.receive():
            if self._channel.closing:
                return
            self._message += piece.data
            if len(self._message) > MESSAGE_LIMIT:
                self._close(TOO_BIG, f"a message is longer than {MESSAGE_LIMIT} bytes")
            elif piece.last:
                message, self._message = bytes(self._message), bytearray()
                self._heed(piece, message)

    def _heed(self, piece: Piece, message: bytes) -> None:
        kind, rest = message[:1], message[1:]
        if piece.opcode != BINARY:
            return
        if kind == DATA:
            self._count(len(rest))
            if self._keyboard is not None:
                self._input += rest
        elif kind == RESIZE and len(rest) >= 4:
            columns, rows = unpack("!HH", rest[:4])
            self._terminal.resize(Size(rows, columns))
        elif kind == READY and not self._onlooker.reading:
            self._onlooker.position = self._terminal.start
            self._onlooker.reading = True

    def _count(self, length: int) -> None:
        now = monotonic()
        if now >= self._since + _INPUT_SECONDS:
            self._counted, self._since = 0, now
        self._counted += length
        if self._counted > _INPUT_LIMIT:
            self._close(POLICY, "input rate limit exceeded")

    def _type(self) -> None:
        if not self._terminal.running:
            self._unplug()
        if self._input and self._keyboard is not None:
            try:
                del self._input[: os.write(self._keyboard, self._input)]
            except BlockingIOError:
                return
            except OSError:
                # Nobody has the terminal open to read from it.
                self._input.clear()

    def _unplug(self) -> None:
        self._input.clear()
        if self._keyboard is not None:
            keyboard, self._keyboard = self._keyboard, None
            os.close(keyboard)

    def _show(self) -> None:
        """Queue what is next, if the last has gone; or say why there is nothing any more."""
        terminal, onlooker = self._terminal, self._onlooker
        if self._channel.closing:
            onlooker.reading = False
        elif not onlooker.reading:
            if terminal.removed:
                self._close(GOING_AWAY, "session terminated")
            elif terminal.total - self._attached_at > HISTORY:
                self._close(POLICY, "pre-ready buffer overflow")
        elif onlooker.position < terminal.start:
            missed = -(-(terminal.start - onlooker.position) // _LAG_UNIT)
            self._close(POLICY, f"output lagged by {missed} messages")
        elif self._channel.backlog:
            return
        elif onlooker.position < terminal.total:
            data = terminal.read(onlooker.position, MESSAGE_LIMIT - 1)
            self._channel.queue(DATA, data)
            terminal.advance(onlooker, len(data))
        elif not terminal.running:
            self._close_at_end()

    def _close_at_end(self) -> None:
        terminal = self._terminal
        if terminal.end_by is not None:
            self._close(GOING_AWAY, "session terminated")
        else:
            code = -1 if terminal.exit_code is None else terminal.exit_code
            # Said twice: not every client's library lets it see why a connection was closed.
            self._channel.queue(EXIT, pack("!i", code))
            self._close(NORMAL, f"exit:{code}")

    def _close(self, code: int, reason: str) -> None:
        self._channel.close(code, reason)
        if self._onlooker.reading:
            self._onlooker.reading = False
            self._terminal.progress.ring()

    async def _wait(self) -> None:
        deadline = self._channel.keep_alive(excused=bool(self._input))
        descriptors = [self._channel.interest(listen=not self._input)]
        if self._input and self._keyboard is not None:
            descriptors.append((self._keyboard, WRITE))
        bells = (self._terminal.changed, self._terminal.attendance)
        wait = Wait(*descriptors, bells=bells, deadline=deadline)
        await wait
        if descriptors[0] == (wait.fired, GONE):
            raise Disconnected("the client hung up")
