"""Where a body ends, and which headers belong to one connection alone.

Bodies pass through as they come; what is looked at is only where they end. What could be read in
two ways (RFC 9112, section 6.3) is refused: both ways to say a length, lengths more than once, any
transfer coding but `chunked`, chunk sizes that are anything but hexadecimal digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from longshore_core._errors import LongshoreError, RequestError
from longshore_core._heads import Headers, RequestHead, ResponseHead
from longshore_core._proxy.grammar import FIELD, bad_request, bad_response

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_SIZE_LIMIT: Final = 4096
_TRAILER_LIMIT: Final = 65536
_LENGTH_DIGITS: Final = 18
_HOP_BY_HOP: Final = (
    b"connection",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"upgrade",
    b"http2-settings",
)
# To have one of these removed would change what the message is.
_END_TO_END: Final = frozenset({b"content-length", b"host", b"transfer-encoding"})


class Scanner(Protocol):
    """Finds the end of one body in the bytes that go by."""

    done: bool

    def scan(self, data: bytes) -> int:
        """How many of these bytes belong to the body. Not called again once `done`."""
        ...


class LengthScanner:
    """A body of so many bytes."""

    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def scan(self, data: bytes) -> int:
        taken = min(self._left, len(data))
        self._left -= taken
        self.done = self._left == 0
        return taken


class CloseScanner:
    """A body that ends with its connection."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def scan(self, data: bytes) -> int:
        return len(data)


class ChunkScanner:
    """A chunked body, its trailers included. Raises `refuse(message)` for what is malformed."""

    __slots__ = ("_expect", "_left", "_line", "_refuse", "_trailers", "done")

    def __init__(self, refuse: Callable[[str], LongshoreError]) -> None:
        self._refuse = refuse
        self._expect = self._size
        self._left = 0
        self._line = b""
        self._trailers = 0
        self.done = False

    def scan(self, data: bytes) -> int:
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            stop = data.find(b"\n", at) + 1
            self._line += data[at : stop or end]
            at = stop or end
            self._expect(self._line)
            if stop:
                self._line = b""
        return at

    def _size(self, line: bytes) -> None:
        if len(line) > _SIZE_LIMIT:
            raise self._refuse("The line with a chunk's size is too long")
        if not line.endswith(b"\n"):
            return
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise self._refuse("Malformed chunk size")
        self._left = int(match[1], 16)
        self._expect = self._after_data if self._left else self._trailer

    def _after_data(self, line: bytes) -> None:
        if not b"\r\n".startswith(line):
            raise self._refuse("A chunk is longer than its size says")
        if line == b"\r\n":
            self._expect = self._size

    def _trailer(self, line: bytes) -> None:
        if self._trailers + len(line) > _TRAILER_LIMIT:
            raise self._refuse("The trailers are too long")
        if not line.endswith(b"\n"):
            return
        self._trailers += len(line)
        if line == b"\r\n":
            self.done = True
        elif FIELD.fullmatch(line) is None:
            raise self._refuse("Malformed trailer")


def request_scanner(head: RequestHead) -> Scanner:
    """What finds the end of this request's body. Raises RequestError: 400, 501."""
    coding, length = _only(head, b"transfer-encoding", bad_request), _length(head, bad_request)
    if coding is None:
        return LengthScanner(length or 0)
    if length is not None:
        raise bad_request("Both Content-Length and Transfer-Encoding")
    if head.version == b"1.0":
        raise bad_request("Transfer-Encoding with HTTP/1.0")
    if coding.lower() != b"chunked":
        raise RequestError(
            501, "UNSUPPORTED_CAPABILITY", "The only transfer coding served is chunked"
        )
    return ChunkScanner(bad_request)


def response_scanner(head: ResponseHead, method: bytes) -> Scanner:
    """What finds the end of the body of this response to `method`. Raises GuestError."""
    if method == b"HEAD" or head.status in {204, 304}:
        return LengthScanner(0)
    coding, length = _only(head, b"transfer-encoding", bad_response), _length(head, bad_response)
    if coding is None:
        return CloseScanner() if length is None else LengthScanner(length)
    if length is not None or coding.lower() != b"chunked" or head.version == b"1.0":
        raise bad_response("the sandbox's response says its length in a way that is not served")
    return ChunkScanner(bad_response)


def _length(head: Headers, refuse: Callable[[str], LongshoreError]) -> int | None:
    value = _only(head, b"content-length", refuse)
    if value is None:
        return None
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise refuse("Malformed Content-Length")
    return int(value)


def _only(head: Headers, name: bytes, refuse: Callable[[str], LongshoreError]) -> bytes | None:
    values = head.get_all(name)
    if len(values) > 1:
        raise refuse(f"{name.decode().title()} is given more than once")
    return next(iter(values), None)


def connection_options(head: Headers) -> frozenset[bytes]:
    """What `Connection` names, in lower case."""
    values = head.get_all(b"connection")
    if not values:
        return frozenset()
    return frozenset(option.strip(b" \t").lower() for option in b",".join(values).split(b","))


def hop_by_hop(
    options: frozenset[bytes], refuse: Callable[[str], LongshoreError] = bad_request
) -> tuple[bytes, ...]:
    """The names of the headers that go no further than this connection.

    Raises `refuse(message)` when `Connection` names one that says what the message is.
    """
    if not options:
        return _HOP_BY_HOP
    if not options.isdisjoint(_END_TO_END):
        raise refuse("Connection names a header that every hop needs")
    return (*_HOP_BY_HOP, *options)


def upgrade_asked(head: RequestHead, options: frozenset[bytes]) -> bytes | None:
    """The protocol that the client asks to upgrade to, when it may.

    Not h2c: its requests would pass by everything that is decided here. Ignoring an upgrade is
    what a server may always do.
    """
    if b"upgrade" not in options or head.version != b"1.1":
        return None
    protocol = head.get(b"upgrade")
    if not protocol or b"h2c" in protocol.lower():
        return None
    return protocol
