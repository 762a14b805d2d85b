"""One request and the response to it, between a client and a guest.

Each stage allows only what comes after it: `DECIDING`, `OPENING`, `WAITING`, `STREAMING` or
`TUNNEL`, `OVER`. The response is begun from `STREAMING` on: what goes wrong before is answered,
what goes wrong after breaks the connection off.
"""

from __future__ import annotations

import contextlib
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import anyio

from longshore_core._errors import GuestError, PluginError, RequestError
from longshore_core._heads import Outcome, RequestHead, ResponseHead
from longshore_core._proxy import answers
from longshore_core._proxy.answers import Refusal, refusal_of
from longshore_core._proxy.framing import Scanner, connection_options
from longshore_core._proxy.layers import Answered, Ask, admit, begin, finish
from longshore_core._proxy.layers import Exchange as Asked
from longshore_core._proxy.response import ResponseReader, end_to_end, outgoing
from longshore_core._proxy.routing import Forward
from longshore_core._proxy.serve_context import CLIENT_CLOSED, Context
from longshore_core._proxy.serve_upstream import Unreached, Upstream, key_of, open_upstream

if TYPE_CHECKING:
    from longshore_core._proxy.serve_client import Client

SWITCHING: Final = 101
CLIENT_GONE: Final = 499
_ADMIT_SECONDS: Final = 10
_SHOWN: Final = 1024
"""As much of a path as is worth a place in the log."""
_REPLAYABLE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})


class Stage(IntEnum):
    DECIDING = 0
    OPENING = 1
    WAITING = 2
    STREAMING = 3
    TUNNEL = 4
    OVER = 5


class Exchange:
    """Drives one request through the layers to a guest, and its response back."""

    __slots__ = (
        "_asked", "_body", "_client", "_client_ended", "_closes", "_context", "_forward", "_head",
        "_reader", "_refusal", "_request_id", "_retried", "_reused", "_spoken", "_stage", "_stamp",
        "_started", "_status", "_unsent", "_upstream", "_upstream_ended",
    )  # fmt: skip

    def __init__(self, context: Context, client: Client, head: RequestHead, body: Scanner) -> None:
        self._context = context
        self._client = client
        self._request_id, self._head = context.identify(head)
        self._body = body
        self._asked: Asked | None = None
        self._forward: Forward | None = None
        self._upstream: Upstream | None = None
        self._refusal: Refusal | None = None
        self._stage = Stage.DECIDING
        self._started = self._stamp = context.now()
        self._status = 0
        self._unsent = 0
        self._reader = ResponseReader(self._head, context.settings.head_bytes)
        self._closes = head.version == b"1.0" or b"close" in connection_options(head)
        self._retried = self._reused = self._spoken = False
        self._client_ended = self._upstream_ended = False

    def begin(self) -> None:
        """Decide where the request goes, and send it there. Called once."""
        if self._context.admits:
            self._context.spawn(self._admit)
        else:
            self._ask(self._context.asks[-1])

    # Deciding.

    async def _admit(self) -> None:
        for number, layer in enumerate(self._context.layers):
            if layer.admit is None:
                continue
            try:
                with anyio.fail_after(_ADMIT_SECONDS):
                    answer = await admit(layer, self._head)
            except (PluginError, TimeoutError) as exc:
                self._blame(exc)
                answer = answers.MIDDLEWARE_FAILED.answer(self._request_id)
                self._refusal = answers.MIDDLEWARE_FAILED
            if self._stage is Stage.OVER:
                return
            if answer is not None:
                self._ask(self._context.asks[number], answer)
                return
        self._ask(self._context.asks[-1])

    def _ask(self, ask: Ask, admitted: ResponseHead | None = None) -> None:
        asked = ask(self._head)
        try:
            decision = begin(asked)
        except PluginError as exc:
            self._blame(exc)
            self._refuse(answers.MIDDLEWARE_FAILED)
            return
        if isinstance(decision, Answered):
            self._give(decision.head)
            return
        self._asked = asked
        if admitted is not None:
            self._give(self._through(admitted))
        elif isinstance(decision, Refusal):
            self._refuse(decision)
        else:
            self._connect(decision)

    def _through(self, head: ResponseHead) -> ResponseHead:
        """What the layers make of a response. When one breaks, that is the response."""
        asked, self._asked = self._asked, None
        if asked is None:
            return head
        try:
            return finish(asked, head)
        except PluginError as exc:
            self._blame(exc)
            self._refusal = answers.MIDDLEWARE_FAILED
            return self._refusal.answer(self._request_id)

    def _blame(self, error: PluginError | TimeoutError) -> None:
        self._context.blame(error, self._request_id)

    # Reaching the guest.

    def _connect(self, forward: Forward) -> None:
        self._forward, self._stage = forward, Stage.OPENING
        self._context.routing(forward, self._request_id)
        key = key_of(forward.route, forward.port)
        upstream = self._context.pool.take(key, certain=not self._replayable())
        if upstream is None:
            self._context.spawn(self._open, forward)
        else:
            self._attach(upstream)

    def _replayable(self) -> bool:
        """Whether the request may be sent twice: nothing of a body, and nothing that it changes
        is changed more by a second time (RFC 9110, section 9.2.2)."""
        return self._body.done and self._head.method in _REPLAYABLE

    async def _open(self, forward: Forward) -> None:
        opened = await open_upstream(forward, self._context.pool, self._context.settings)
        if isinstance(opened, Unreached):
            self._context.log.debug("Guest not reached", reason=opened.reason)
            if self._stage is not Stage.OVER:
                self._refuse(opened.refusal)
        elif self._stage is Stage.OVER:
            opened.abort()
        else:
            self._attach(opened)

    def _attach(self, upstream: Upstream) -> None:
        forward = self._forward
        assert forward is not None
        upstream.work_for(self)
        upstream.read(wanted=self._client.writable)
        self._upstream, self._stage, self._stamp = upstream, Stage.WAITING, self._context.now()
        self._reused = upstream.reused
        self._client.give_back(self.client_data(self._client.take(), forward.head.serialise()))

    # What the client does.

    def client_data(self, data: bytes, before: bytes = b"") -> bytes:
        """Pass on what belongs to this exchange; the answer is what does not, or not yet."""
        upstream, end = self._upstream, 0
        if upstream is None:
            return data
        if self._stage is Stage.TUNNEL:
            upstream.write(data)
            return b""
        if not self._body.done:
            self._stamp = self._context.now()
            try:
                end = self._body.scan(data)
            except RequestError as exc:
                self._refuse(refusal_of(exc))
                return b""
        upstream.write(before + data[:end])
        return data[end:]

    def client_writable(self, writable: bool) -> None:
        """The client takes more, or takes no more for now."""
        self._stamp = self._context.now()
        if self._upstream is not None:
            self._upstream.read(wanted=writable)

    def client_eof(self) -> bool:
        """The client has said all. True: the other direction goes on."""
        if self._stage is not Stage.TUNNEL or self._upstream is None:
            self.client_lost()
            return False
        self._client_ended = True
        self._upstream.write_eof()
        if self._upstream_ended:
            self._close_tunnel(reset=False)
        return True

    def client_lost(self) -> None:
        """The client has gone: so does whatever was done for it."""
        if self._stage is Stage.OVER:
            return
        if self._stage < Stage.STREAMING:
            self._status = CLIENT_GONE
        elif self._stage is Stage.TUNNEL and self._upstream is not None:
            # What it said last still goes through.
            self._upstream.close()
            self._upstream = None
        self._finish(gone=self._stage is not Stage.TUNNEL)

    # What the sandbox does.

    def upstream_data(self, data: bytes) -> None:
        self._stamp, self._spoken = self._context.now(), True
        try:
            if self._stage is Stage.STREAMING:
                self._stream(data, self._reader.scan(data))
            elif self._stage is Stage.TUNNEL:
                self._client.write(data)
            else:
                self._read_head(data)
        except GuestError as exc:
            self._context.log.warning(
                "Sandbox broke HTTP", reason=str(exc), request_id=self._request_id
            )
            self._refuse(answers.PROXY_ERROR)

    def upstream_eof(self) -> bool:
        if self._stage is not Stage.TUNNEL:
            return False
        self._upstream_ended = True
        self._client.write_eof()
        if self._client_ended:
            self._close_tunnel(reset=False)
        return True

    def upstream_lost(self, exc: Exception | None) -> None:
        self._upstream = None
        if self._stage is Stage.TUNNEL:
            self._close_tunnel(reset=exc is not None)
        elif self._stage is Stage.STREAMING and self._reader.until_close and exc is None:
            self._end(close=True)
        elif self._reused and not self._spoken and not self._retried and self._replayable():
            # Closed by the guest while the request was on its way: it has not seen it.
            assert self._forward is not None
            self._retried, self._stage = True, Stage.OPENING
            self._context.spawn(self._open, self._forward)
        else:
            self._refuse(answers.CONNECTION_CLOSED)

    def upstream_writable(self, writable: bool) -> None:
        self._stamp = self._context.now()
        self._client.hold_up(held=not writable)

    # The response.

    def _read_head(self, data: bytes) -> None:
        while (head := self._reader.next_head(data)) is not None:
            data = b""
            if head.status == SWITCHING:
                self._switch(head)
                return
            if head.status >= 200:
                self._respond(head)
                return
            if self._head.version == b"1.1":
                self._client.write(outgoing(end_to_end(head)))

    def _respond(self, head: ResponseHead) -> None:
        rest = self._reader.begin_body(head)
        final = self._through(end_to_end(head))
        if final.body is not None:
            self._give(final)
            return
        self._status, self._stage = final.status, Stage.STREAMING
        # An early refusal most likely means that the rest of the request is not wanted; so does the
        # end of the sandbox's connection.
        early = not self._body.done and (final.status >= 400 or not self._reader.keeps)
        self._closes = self._closes or self._reader.until_close or early or self._context.draining
        end = self._reader.scan(rest)
        self._stream(rest, end, outgoing(final, close=self._closes))

    def _stream(self, data: bytes, end: int, before: bytes = b"") -> None:
        self._client.write(before + data[:end])
        upstream = self._upstream
        if not self._reader.done or upstream is None:
            return
        if self._reader.keeps and self._body.done and end == len(data):
            self._upstream = None
            self._context.pool.give(upstream)
        self._end(close=self._closes or not self._body.done)

    def _switch(self, head: ResponseHead) -> None:
        forward = self._forward
        if forward is None or not forward.upgrade or not self._body.done:
            raise GuestError("the sandbox switched protocols without being asked")
        protocol = head.get(b"upgrade") or b""
        rest = self._reader.begin_body(head)
        final = self._through(end_to_end(head))
        if final.body is not None:
            self._give(final)
            return
        self._status, self._stage = SWITCHING, Stage.TUNNEL
        final = final.with_((b"Connection", b"Upgrade"), (b"Upgrade", protocol))
        self._client.write(outgoing(final) + rest)
        self._client.pull()

    # Answers of our own, and ends.

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal; break off a response that has begun."""
        self._refusal = refusal
        if self._stage < Stage.STREAMING:
            self._give(self._through(refusal.answer(self._request_id)))
            return
        reset = self._reader.until_close
        self._finish()
        self._client.cut(reset=reset)

    def _give(self, head: ResponseHead) -> None:
        """Answer from here, with the body that the head brings."""
        self._status = head.status
        if not self._body.done:
            rest = self._client.take()
            # What cannot be read is not read: the connection closes after this answer.
            with contextlib.suppress(RequestError):
                self._client.give_back(rest[self._body.scan(rest) :])
        close = self._closes or not self._body.done or self._context.draining
        body = b"" if self._head.method == b"HEAD" else head.body or b""
        self._client.write(outgoing(head, close=close) + body)
        self._end(close=close)

    def _close_tunnel(self, *, reset: bool) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        self._finish()
        self._client.cut(reset=reset)

    def _end(self, *, close: bool) -> None:
        self._finish()
        self._client.over(close=close)

    def _finish(self, *, gone: bool = False) -> None:
        """Let go of the sandbox, and tell how it went. Once."""
        self._stage = Stage.OVER
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        forward, refusal = self._forward, self._refusal
        target = forward or refusal
        error = refusal.code if refusal is not None else CLIENT_CLOSED if gone else None
        outcome = Outcome(
            request_id=self._request_id,
            sandbox_id=target.sandbox_id if target is not None else None,
            port=target.port if target is not None else None,
            method=self._head.method.decode(),
            path=self._head.path[:_SHOWN].decode(),
            status=self._status,
            duration_seconds=self._context.now() - self._started,
            error=error,
        )
        self._context.ended(outcome, refusal, forward.address if forward is not None else None)

    def check(self, now: float) -> None:
        """See whether something has taken too long. Called about once a second."""
        upstream, timeouts = self._upstream, self._context.settings.timeouts
        if upstream is None or self._stage is Stage.TUNNEL:
            # Deciding and opening have deadlines of their own; a tunnel may be silent.
            return
        unsent = upstream.unsent()
        if unsent != self._unsent:
            self._unsent, self._stamp = unsent, now
        waited = now - self._stamp
        if unsent:
            if waited > timeouts.write_seconds:
                self._refuse(answers.WRITE_TIMEOUT)
        elif self._stage is Stage.WAITING and not self._body.done:
            if waited > timeouts.body_seconds:
                self._refuse(answers.REQUEST_TIMEOUT)
        elif self._client.writable and not self._reader.patient and waited > timeouts.read_seconds:
            self._refuse(answers.READ_TIMEOUT)

    @property
    def patient(self) -> bool:
        """Whether the client may take its time to read."""
        return self._stage is Stage.TUNNEL
