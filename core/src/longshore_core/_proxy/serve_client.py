"""One client's connection: finds heads in what it sends, and serves exchange after exchange."""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum
from typing import Final, cast

from longshore_core._errors import RequestError
from longshore_core._heads import Outcome
from longshore_core._proxy.answers import HEAD_TOO_LARGE, REQUEST_TIMEOUT, Refusal, refusal_of
from longshore_core._proxy.framing import request_scanner
from longshore_core._proxy.grammar import bad_request
from longshore_core._proxy.heads import END, hopeless, parse_request
from longshore_core._proxy.serve_context import Context
from longshore_core._proxy.serve_exchange import Exchange

_PENDING_LIMIT: Final = 65536
"""What a client may send ahead before it has to wait."""
_LINGER_BYTES: Final = 16 << 20
_RESET: Final = struct.pack("ii", 1, 0)


class Stage(Enum):
    BETWEEN = "between"
    """No exchange; perhaps a part of a head."""
    EXCHANGE = "exchange"
    LINGERING = "lingering"
    """All is said; what still comes is thrown away, so that no reset eats the answer."""
    CLOSING = "closing"


class Client(asyncio.Protocol):
    """The downstream side of the proxy."""

    __slots__ = (
        "_context", "_exchange", "_held_up", "_lingered", "_pending", "_served", "_serving",
        "_since", "_stage", "_stalled_since", "_transport", "_unsent", "writable",
    )  # fmt: skip

    def __init__(self, context: Context) -> None:
        self._context = context
        self._exchange: Exchange | None = None
        self._held_up = False
        self._lingered = 0
        self._pending = b""
        self._served = 0
        self._serving = False
        self._since = self._stalled_since = context.now()
        self._stage = Stage.BETWEEN
        self._transport: asyncio.Transport
        self._unsent = 0
        self.writable = True

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What a stream server makes is a Transport; the base class only says less.
        self._transport = cast("asyncio.Transport", transport)
        self._context.clients.add(self)
        if self._context.draining:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._stage is Stage.LINGERING:
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES:
                self._transport.abort()
            return
        if self._stage is Stage.CLOSING:
            return
        if self._pending:
            data = self._pending + data
        elif self._exchange is None:
            self._since = self._context.now()
        self._pending = data
        if self._exchange is not None:
            self.pull()
        else:
            self._serve()

    def eof_received(self) -> bool:
        if self._exchange is None:
            return False
        # A client that hangs up and one that only ends its side look the same. Only in a tunnel
        # does the other direction go on; elsewhere nobody must work for a client that has gone.
        return self._exchange.client_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stage = Stage.CLOSING
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
        self._context.gone(self)

    def pause_writing(self) -> None:
        self.writable = False
        if self._exchange is not None:
            self._exchange.client_writable(False)

    def resume_writing(self) -> None:
        self.writable = True
        if self._exchange is not None:
            self._exchange.client_writable(True)

    # What the exchange asks for.

    def write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()

    def pull(self) -> None:
        """Give the exchange what has come, and read on or not as it can take more."""
        if self._exchange is not None:
            self.give_back(self._exchange.client_data(self.take()))

    def hold_up(self, *, held: bool) -> None:
        """Whether the sandbox takes no more for now."""
        self._held_up = held
        self._adjust()

    def take(self) -> bytes:
        """What has come and was not looked at. What is not of the exchange is to be given back."""
        pending, self._pending = self._pending, b""
        return pending

    def give_back(self, rest: bytes) -> None:
        if self._stage is Stage.EXCHANGE:
            self._pending = rest
            self._adjust()

    def over(self, *, close: bool) -> None:
        """The exchange has come to its end; what remains of its request makes `close` linger."""
        self._exchange, self._held_up = None, False
        self._served += 1
        self._since = self._context.now()
        if self._stage is Stage.CLOSING or self._transport.is_closing():
            return
        if close or self._context.draining:
            self._linger()
            return
        self._stage = Stage.BETWEEN
        self._adjust()
        self._serve()

    def cut(self, *, reset: bool) -> None:
        """Break off a response. `reset`: its end would otherwise look like a proper one."""
        self._exchange, self._stage = None, Stage.CLOSING
        if reset:
            sock: socket.socket = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._transport.close()

    # What the proxy asks for.

    def retire(self) -> None:
        """The proxy stops: go at once, or after the exchange in progress."""
        if self._exchange is None and self._stage is Stage.BETWEEN:
            self._close()

    def abort(self) -> None:
        self._transport.abort()

    def check(self, now: float) -> None:
        """See whether something has taken too long. Called about once a second."""
        timeouts = self._context.settings.timeouts
        unsent = self._transport.get_write_buffer_size()
        tunnel = self._exchange is not None and self._exchange.patient
        if unsent == 0 or unsent != self._unsent or tunnel:
            self._unsent, self._stalled_since = unsent, now
        elif now - self._stalled_since > timeouts.write_seconds:
            self._transport.abort()
            return
        waited = now - self._since
        if self._exchange is not None:
            self._exchange.check(now)
        elif self._stage is Stage.LINGERING:
            if waited > timeouts.linger_seconds and unsent == 0:
                self._transport.abort()
        elif self._stage is Stage.BETWEEN:
            if self._pending and waited > timeouts.head_seconds:
                self._refuse(REQUEST_TIMEOUT)
            elif waited > (timeouts.keep_alive_seconds if self._served else timeouts.head_seconds):
                self._close()

    # From bytes to exchanges.

    def _serve(self) -> None:
        """Begin exchanges while there are heads: a loop, as many may be answered at once."""
        if self._serving:
            return
        self._serving = True
        try:
            while self._pending and self._stage is Stage.BETWEEN and self._begin():
                pass
        finally:
            self._serving = False

    def _begin(self) -> bool:
        # One empty line before a request is forgiven (RFC 9112, section 2.2).
        data = self._pending = self._pending.removeprefix(b"\r\n")
        limit = self._context.settings.head_bytes
        end = data.find(END, 0, limit) + len(END)
        if end < len(END):
            if len(data) > limit:
                self._refuse(HEAD_TOO_LARGE)
            elif data and data != b"\r" and hopeless(data):
                self._refuse(refusal_of(bad_request("The request is not HTTP/1.1")))
            return False
        try:
            head = parse_request(data[:end])
            scanner = request_scanner(head)
        except RequestError as exc:
            self._refuse(refusal_of(exc))
            return False
        self._pending = data[end:]
        self._stage = Stage.EXCHANGE
        exchange = self._exchange = Exchange(self._context, self, head, scanner)
        exchange.begin()
        return True

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what never became a request, and be done with this client."""
        request_id = self._context.new_id()
        answer = refusal.answer(request_id).with_((b"Connection", b"close"))
        self.write(answer.serialise() + (answer.body or b""))
        self._pending = b""
        outcome = Outcome(
            request_id=request_id,
            sandbox_id=None,
            port=None,
            method="",
            path="",
            status=refusal.status,
            duration_seconds=self._context.now() - self._since,
            error=refusal.code,
        )
        self._context.ended(outcome, refusal, None)
        self._linger()

    def _linger(self) -> None:
        """Say that no more will come, and wait for the client to have read it."""
        self._stage, self._pending, self._since = Stage.LINGERING, b"", self._context.now()
        self._transport.resume_reading()
        self.write_eof()

    def _close(self) -> None:
        self._stage = Stage.CLOSING
        self._transport.close()

    def _adjust(self) -> None:
        if self._held_up or len(self._pending) > _PENDING_LIMIT:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
