"""WebSockets over any wire, and the only module that knows websockets, of which it takes the core.

One may receive while others send. The core is no one's alone then: a lock is held for as long as
it is asked something, and never while anything is awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from longshore._carrier import CarryError, Wire

NORMAL: Final = 1000
_MOST_BYTES: Final = 4 << 20
"""No message of the daemon's is longer: what is, is something else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What the other side has answered; 101 if it agrees."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """How the other side has closed it."""

    code: int
    reason: str


class WebSocket:
    """To be closed, whatever happens. `closed` is known at the end."""

    def __init__(self, wire: Wire, url: str) -> None:
        # Of http and https URLs: theirs are the same but for that.
        self._core = ClientProtocol(
            parse_uri(f"ws{url.removeprefix('http')}"), max_size=_MOST_BYTES
        )
        self._wire = wire
        self._guard = Lock()
        self._events: deque[Frame | Response] = deque()
        self._message = bytearray()
        self.closed: Closed | None = None

    async def shake_hands(self, headers: Mapping[str, str]) -> Handshake:
        """Raises CarryError."""
        request = self._core.connect()
        for name, value in headers.items():
            request.headers[name] = value
        self._core.send_request(request)
        await self._wire.send(self._take)
        while not self._events and self._core.handshake_exc is None:
            await self._fetch()
        failure = self._core.handshake_exc
        if not self._events or not isinstance(response := self._events.popleft(), Response):
            raise CarryError(f"no answer that could be read: {failure}") from failure
        if response.status_code == 101 and isinstance(failure, InvalidHandshake):
            raise CarryError(f"no WebSocket: {failure}") from failure
        return Handshake(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.raw_items()},
            body=bytes(response.body or b""),
        )

    async def receive(self) -> bytes | None:
        """The next message; `None` when the other side has closed it. Raises CarryError."""
        while self.closed is None:
            while self._events:
                if (message := self._next(self._events.popleft())) is not None:
                    return message
            if self.closed is None:
                await self._fetch()
        return None

    async def send(self, data: bytes) -> None:
        """As a message, as soon as the other side takes it. Raises CarryError."""

        def take() -> bytes:
            # Only now that it is its turn: whoever answers a ping takes none of it along.
            with self._guard:
                try:
                    self._core.send_binary(data)
                except InvalidState as exc:
                    raise CarryError("it has been closed") from exc
            return self._take()

        await self._wire.send(take)

    async def say_goodbye(self) -> None:
        """What was sent before still arrives. Raises CarryError."""
        with self._guard:
            if self._core.close_sent is not None:
                return
            try:
                self._core.send_close(NORMAL)
            except InvalidState as exc:
                raise CarryError("it has been closed") from exc
        await self._wire.send(self._take)

    async def close(self) -> None:
        """Hang up. Idempotent."""
        await self._wire.close()

    def _next(self, event: Frame | Response) -> bytes | None:
        if not isinstance(event, Frame):
            return None
        if event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
            self._message += event.data
            if event.fin:
                message = bytes(self._message)
                self._message.clear()
                return message
        elif event.opcode is Opcode.CLOSE:
            received = self._core.close_rcvd
            assert received is not None
            self.closed = Closed(code=received.code, reason=received.reason)
        return None

    async def _fetch(self) -> None:
        data = await self._wire.receive()
        with self._guard:
            if data:
                self._core.receive_data(data)
            else:
                self._core.receive_eof()
            self._events.extend(self._core.events_received())  # type: ignore[arg-type]  # Event is wider than what a client gets
            failure = self._core.parser_exc
        if not self._events and failure is not None:
            raise CarryError(f"the connection was cut: {failure}") from failure
        if not data and not self._events:
            raise CarryError("the connection was cut: it ended too early")
        # Answers to pings. To wait here, for whoever is sending or for room, might be to wait for
        # somebody who waits for us to read; they can go with what is sent next, too.
        await self._wire.send_at_once(self._take)

    def _take(self) -> bytes:
        with self._guard:
            return b"".join(self._core.data_to_send())
