"""One response of a sandbox, read as it comes, and its head as the client gets it. Pure."""

from __future__ import annotations

from longshore_core._heads import RequestHead, ResponseHead
from longshore_core._proxy.framing import (
    CloseScanner,
    LengthScanner,
    Scanner,
    connection_options,
    hop_by_hop,
    response_scanner,
)
from longshore_core._proxy.grammar import bad_response
from longshore_core._proxy.heads import END, parse_response


class ResponseReader:
    """Finds heads, and then the end of the body, in what a sandbox sends. Raises GuestError."""

    __slots__ = ("_body", "_limit", "_method", "_received", "keeps", "patient")

    def __init__(self, request: RequestHead, limit: int) -> None:
        self._method = request.method
        self._limit = limit
        self._received = b""
        self._body: Scanner = LengthScanner(0)
        self.keeps = False
        """Whether the sandbox keeps the connection after this response."""
        self.patient = False
        """Whether silence is no sign of trouble: a stream of events."""

    def next_head(self, data: bytes) -> ResponseHead | None:
        """The next head, 1xx included; `None`: there is more to come of it."""
        data = self._received = self._received + data
        end = data.find(END, 0, self._limit) + len(END)
        if end < len(END):
            if len(data) > self._limit:
                raise bad_response("the head of the sandbox's response is too large")
            return None
        head = parse_response(data[:end])
        self._received = data[end:]
        return head

    def begin_body(self, head: ResponseHead) -> bytes:
        """This head is the final one; the answer is what has come after it."""
        options = connection_options(head)
        self._body = response_scanner(head, self._method)
        self.keeps = not self.until_close and (
            b"close" not in options if head.version == b"1.1" else b"keep-alive" in options
        )
        kind = head.get(b"content-type") or b""
        self.patient = kind.lower().startswith(b"text/event-stream")
        rest, self._received = self._received, b""
        return rest

    def scan(self, data: bytes) -> int:
        """How much of this belongs to the body."""
        return 0 if self._body.done else self._body.scan(data)

    @property
    def done(self) -> bool:
        return self._body.done

    @property
    def until_close(self) -> bool:
        return isinstance(self._body, CloseScanner)


def end_to_end(head: ResponseHead) -> ResponseHead:
    """The head less what is of the connection to the sandbox alone. Raises GuestError."""
    names = hop_by_hop(connection_options(head), bad_response)
    if head.status == 204 or head.status < 200:
        # There is no body, whatever they say; a client might believe them.
        return head.without(*names, b"content-length", b"transfer-encoding")
    return head.without(*names)


def outgoing(head: ResponseHead, *, close: bool = False) -> bytes:
    """The bytes of a head for the client: of our version, and saying whether we close."""
    if close:
        head = head.with_((b"Connection", b"close"))
    raw = head.serialise()
    return raw if head.version == b"1.1" else b"HTTP/1.1" + raw[8:]
