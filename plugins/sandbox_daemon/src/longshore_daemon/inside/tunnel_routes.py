"""The route /api/v1/tunnels/tcp: a port in here, over a WebSocket. Messages are bytes, no more."""

from __future__ import annotations

from time import monotonic

from longshore_daemon.inside.channel import Channel, upgrade
from longshore_daemon.inside.dial import DialError, dial
from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.loop import GONE, READ, WRITE, Wait, pause
from longshore_daemon.inside.origins import refuse_other_pages
from longshore_daemon.inside.stream import Disconnected, Stream
from longshore_daemon.inside.websocket import BINARY, INTERNAL_ERROR, NORMAL, UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.server import Route

_LINGER_SECONDS = 2.0
_DELIVER_SECONDS = 30.0
_ANSWERS = {
    "INVALID_PORT": (400, "INVALID_SANDBOX_PORT", False),
    "CONNECTION_REFUSED": (502, "CONNECTION_REFUSED", True),
    "CONNECTION_TIMEOUT": (504, "CONNECTION_TIMEOUT", True),
}


class TunnelRoutes:
    __slots__ = ()

    def table(self) -> tuple[Route, ...]:
        return (("GET", "tunnels/tcp", self.open),)

    async def open(self, exchange: Exchange) -> None:
        """Connect, then shake hands: who cannot be reached is an answer, not a reason to close."""
        refuse_other_pages(exchange.head.headers)
        port = exchange.head.query.get("port", "")
        try:
            number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
            sock = await dial(number)
        except DialError as exc:
            status, code, retryable = _ANSWERS[exc.code]
            raise ApiError(status, code, str(exc), retryable=retryable) from exc
        target = Stream(sock)
        try:
            await Tunnel(await upgrade(exchange), target).serve()
        finally:
            target.close()


class Tunnel:
    """Served by one task. Each side is read from as the other takes it."""

    __slots__ = ("_channel", "_ended", "_outgoing", "_target")

    def __init__(self, channel: Channel, target: Stream) -> None:
        self._channel = channel
        self._target = target
        self._outgoing = bytearray()
        """What the target has not taken yet."""
        self._ended = False
        """Nothing comes from the target any more."""

    async def serve(self) -> None:
        while not self._channel.finished:
            self._receive()
            self._deliver()
            self._fetch()
            queued = self._channel.backlog
            self._channel.flush()
            if queued and not self._channel.backlog:
                await pause()
            elif not self._channel.finished:
                await self._wait()
        await self._deliver_rest()
        await self._target.linger(_LINGER_SECONDS)

    def _receive(self) -> None:
        if self._outgoing:
            return
        for piece in self._channel.receive():
            if piece.opcode != BINARY:
                self._channel.close(UNSUPPORTED, "binary messages are wanted")
            elif not self._ended:
                self._outgoing += piece.data

    def _deliver(self) -> None:
        if self._outgoing:
            try:
                del self._outgoing[: self._target.send_now(self._outgoing)]
            except Disconnected as exc:
                self._break(str(exc))

    def _fetch(self) -> None:
        if self._ended or self._channel.backlog or self._channel.closing:
            return
        try:
            data = self._target.receive_now(finished=b"")
        except Disconnected as exc:
            self._break(str(exc))
        else:
            if data:
                self._channel.queue(data)
            elif data is not None:
                self._ended = True
                self._channel.close(NORMAL, "")

    def _break(self, reason: str) -> None:
        self._ended = True
        self._outgoing.clear()
        self._channel.close(INTERNAL_ERROR, reason)

    async def _deliver_rest(self) -> None:
        """What came before the client's goodbye reaches the target."""
        deadline = monotonic() + _DELIVER_SECONDS
        while self._outgoing:
            self._deliver()
            descriptor = (self._target.socket.fileno(), WRITE)
            if self._outgoing and not await Wait(descriptor, deadline=deadline):
                return

    async def _wait(self) -> None:
        deadline = self._channel.keep_alive(excused=bool(self._outgoing))
        mine = self._channel.interest(listen=not self._outgoing)
        mask = WRITE if self._outgoing else 0
        if not (self._ended or self._channel.backlog or self._channel.closing):
            mask |= READ
        target = (self._target.socket.fileno(), mask)
        # Without anything to wait for, the other side's hanging up would end each wait at once.
        descriptors = (mine, target) if mask else (mine,)
        wait = Wait(*descriptors, deadline=deadline)
        await wait
        if mine == (wait.fired, GONE):
            raise Disconnected("the client hung up")
