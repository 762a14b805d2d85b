"""A WebSocket on a connection: what comes and what goes, without ever waiting.

One task serves it, and waits for it along with whatever else it serves: the socket may be watched
only once. Between two waits, that task takes what has come, queues what is to go, and flushes.
"""

from __future__ import annotations

from fcntl import ioctl
from termios import TIOCOUTQ
from time import monotonic

from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.loop import GONE, READ, WRITE
from longshore_daemon.inside.stream import Disconnected, Stream
from longshore_daemon.inside.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    Frames,
    Piece,
    Violation,
    accept_key,
    encode,
    encode_close,
    read_close,
)

_PING_SECONDS = 30.0
_CLOSE_SECONDS = 30.0
"""How long a client may take to read what is on its way, and why it is closed."""
_BACKLOG_LIMIT = 65536
"""Who does not take the answers to its pings is not read from any more."""


async def upgrade(exchange: Exchange) -> Channel:
    """Answer a handshake. Raises ApiError 400 or 426."""
    headers = exchange.head.headers
    wanted = [token.strip() for token in headers.get("upgrade", "").lower().split(",")]
    if "websocket" not in wanted or headers.get("sec-websocket-version") != "13":
        message = "a websocket of version 13 is wanted here"
        told = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
        raise ApiError(426, "UPGRADE_REQUIRED", message, headers=told)
    accept = accept_key(headers.get("sec-websocket-key", ""))
    if accept is None or exchange.head.length != 0:
        message = "the handshake has no valid Sec-WebSocket-Key, or it has a body"
        raise ApiError(400, "BAD_REQUEST", message)
    await exchange.upgrade("websocket", ("Sec-WebSocket-Accept", accept))
    return Channel(exchange.stream)


class Channel:
    """The server's side. All methods raise Disconnected when the client has gone."""

    __slots__ = (
        "_closed_at",
        "_frames",
        "_heard",
        "_next_ping",
        "_outgoing",
        "_peer_closed",
        "_stream",
    )

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._frames = Frames()
        self._outgoing = bytearray()
        self._closed_at: float | None = None
        self._peer_closed = False
        self._heard = True
        self._next_ping = monotonic() + _PING_SECONDS

    @property
    def closing(self) -> bool:
        """The end is queued: nothing can follow."""
        return self._closed_at is not None

    @property
    def finished(self) -> bool:
        return self._peer_closed and self.closing and not self._outgoing

    @property
    def backlog(self) -> int:
        """The bytes that are queued."""
        return len(self._outgoing)

    def receive(self) -> list[Piece]:
        """The data that has come. Pings and the closing are seen to here."""
        if self._peer_closed or self.backlog > _BACKLOG_LIMIT:
            return []
        data = self._stream.receive_now()
        if data is None:
            return []
        self._heard = True
        pieces: list[Piece] = []
        try:
            for piece in self._frames.feed(data):
                if piece.opcode < CLOSE:
                    pieces.append(piece)
                elif piece.opcode == PING and not self.closing:
                    self._outgoing += encode(PONG, piece.data)
                elif piece.opcode == CLOSE:
                    code = read_close(piece.data)
                    self._peer_closed = True
                    self.close(code, "")
                    break
        except Violation as exc:
            # What a client says after breaking the protocol has no meaning, not even its goodbye.
            self._peer_closed = True
            self.close(exc.code, str(exc))
        return pieces

    def queue(self, *payload: bytes) -> None:
        """One binary message."""
        if not self.closing:
            self._outgoing += encode(BINARY, *payload)

    def close(self, code: int, reason: str) -> None:
        """Say why, after what is queued. The first time counts."""
        if self._closed_at is None:
            self._closed_at = monotonic()
            self._outgoing += encode_close(code, reason)

    def flush(self) -> None:
        """Send as much as can go at once."""
        if self._outgoing:
            del self._outgoing[: self._stream.send_now(self._outgoing)]

    def keep_alive(self, *, excused: bool) -> float:
        """Ping when it is time; the next time is returned.

        Raises Disconnected for a client that has not said a word since the last ping, unless it
        is `excused`, because it has not been listened to, or bytes are waiting for it: who does not
        read cannot answer, and need not be dead. And for one that is closed and stays.
        """
        now = monotonic()
        if self._closed_at is not None:
            if now >= self._closed_at + _CLOSE_SECONDS:
                raise Disconnected("the client does not take its leave")
            return self._closed_at + _CLOSE_SECONDS
        if now >= self._next_ping:
            if not (self._heard or excused or self._is_behind()):
                raise Disconnected("the client does not answer")
            self._heard = False
            self._outgoing += encode(PING)
            self._next_ping = now + _PING_SECONDS
        return self._next_ping

    def _is_behind(self) -> bool:
        if self._outgoing:
            return True
        try:
            return any(ioctl(self._stream.socket.fileno(), TIOCOUTQ, bytes(4)))
        except OSError:
            # Not every sandboxed kernel can tell.
            return False

    def interest(self, *, listen: bool) -> tuple[int, int]:
        """What to wait for: that something comes, if it is listened to, and that something goes."""
        mask = GONE
        if listen and not self._peer_closed and self.backlog <= _BACKLOG_LIMIT:
            mask |= READ
        if self._outgoing:
            mask |= WRITE
        return (self._stream.socket.fileno(), mask)
