"""An answer on a wire of its own: whoever waits for a piece in vain may wait for it again.

An HTTP client ends an answer of which nothing came in time. Of one that tells of events, that
nothing came is no fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import h11

from longshore._carrier import Carrier, CarryError, Request, Wire

_MOST_HEAD_BYTES: Final = 64 << 10


async def open_live(carrier: Carrier, request: Request) -> LiveAnswer:
    """Send it, without a body, and wait for the head of its answer. Raises CarryError."""
    parts = urlsplit(request.url)
    wire = await carrier.dial(request.url)
    try:
        answer = LiveAnswer(wire)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {**request.headers, "Host": parts.netloc, "Connection": "close"}
        await answer.begin(request.method, target, headers)
    except BaseException:
        await wire.close()
        raise
    return answer


class LiveAnswer:
    """A Stream. A read that raises CarryError because it was silent can be tried again."""

    def __init__(self, wire: Wire) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._wire = wire
        self._core = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)

    async def begin(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Raises CarryError."""
        head = h11.Request(method=method, target=target, headers=list(headers.items()))
        data = (self._core.send(head) or b"") + (self._core.send(h11.EndOfMessage()) or b"")
        await self._wire.send(lambda: data)
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise CarryError("it ended too early")
        self.status = event.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises CarryError."""
        while True:
            event = await self._next()
            if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return b""
            if isinstance(event, h11.Data) and event.data:
                return bytes(event.data)

    async def close(self) -> None:
        """Idempotent."""
        await self._wire.close()

    async def _next(self) -> h11.Event:
        try:
            while True:
                event = self._core.next_event()
                if event is h11.PAUSED:
                    return h11.ConnectionClosed()
                if isinstance(event, h11.Event):
                    return event
                self._core.receive_data(await self._wire.receive())
        except h11.RemoteProtocolError as exc:
            raise CarryError(f"the connection was cut: {exc}") from exc
