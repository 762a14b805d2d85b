"""HTTP/1.1 as read by a server: pure functions and one small machine, no input or output.

Strict where leniency lets two parties disagree on where a message ends: lines end in CR LF, a
header is one line, a body has one length. Everything that is refused raises BadRequest.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_LIMIT = 65536
_CHUNK_LINE_LIMIT = 4096
_TRAILERS_LIMIT = 16384
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_DIGITS = frozenset(b"0123456789")


class BadRequest(Exception):
    """What came is not a request that can be served. Carries the status to answer with."""

    retryable = False
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, message: str, status: int = 400, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Head:
    """A request without its body. Header names are in lower case; equal ones are joined."""

    __slots__ = ("headers", "keep_alive", "length", "method", "path", "query")

    def __init__(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.path = path
        self.query = parse_query(query)
        self.headers = headers
        self.keep_alive = True
        self.length: int | None = 0
        """Of the body; `None` when it comes in chunks."""


def parse_head(raw: bytes) -> Head:
    """Read a head, given up to and without the empty line that ends it."""
    first, *rest = raw.split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not _is_token(parts[0]):
        raise BadRequest("the request line is malformed")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest("only HTTP/1.1 is spoken here", 505, "HTTP_VERSION_NOT_SUPPORTED")
    headers: dict[str, str] = {}
    for line in rest:
        name, value = _parse_field(line)
        if name in headers and name in ("content-length", "host", "transfer-encoding"):
            raise BadRequest(f"more than one {name}")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    head = Head(parts[0].decode("ascii"), _parse_target(parts[1]), headers)
    options = [option.strip() for option in headers.get("connection", "").lower().split(",")]
    head.keep_alive = parts[2] == b"HTTP/1.1" and "close" not in options
    head.length = _body_length(headers)
    return head


def _is_token(raw: bytes) -> bool:
    return bool(raw) and _TOKEN.issuperset(raw)


def _parse_field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or not _is_token(name):
        raise BadRequest("a header is malformed")
    value = value.strip(b" \t")
    if any((byte < 32 and byte != 9) or byte == 127 for byte in value):
        raise BadRequest(f"the header {name.decode('ascii')} has control characters")
    return name.decode("ascii").lower(), value.decode("latin-1")


def _parse_target(target: bytes) -> str:
    if any(byte <= 32 or byte == 127 for byte in target):
        raise BadRequest("the request target has control characters")
    text = target.decode("latin-1")
    for scheme in ("http://", "https://"):
        if text[: len(scheme)].lower() == scheme:
            return "/" + text[len(scheme) :].partition("/")[2]
    if not text.startswith("/"):
        raise BadRequest("the request target is not a path")
    return text


def _body_length(headers: Mapping[str, str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None:
            raise BadRequest("both transfer-encoding and content-length")
        if coding.lower() != "chunked":
            raise BadRequest(
                f"transfer-encoding {coding} is not understood", 501, "UNSUPPORTED_CAPABILITY"
            )
        return None
    if length is None:
        return 0
    if not _DIGITS.issuperset(length.encode("latin-1")) or not 0 < len(length) <= 18:
        raise BadRequest("content-length is not a number")
    return int(length)


class Chunked:
    """Takes a body in chunks apart. Feed it until `done`; what came after is then in `rest`."""

    __slots__ = ("_line", "_remaining", "_state", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self._state = "size"
        self._line = bytearray()
        self._remaining = 0
        self._trailers = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body that are in `data`."""
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and not self.done:
            if self._state == "data":
                piece = data[position : position + self._remaining]
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if not self._remaining:
                    self._state = "end"
            else:
                position = self._feed_line(data, position)
        if self.done:
            self.rest = data[position:]
        return b"".join(pieces)

    def _feed_line(self, data: bytes, position: int) -> int:
        newline = data.find(b"\n", position)
        end = len(data) if newline < 0 else newline + 1
        self._line += data[position:end]
        if len(self._line) > _CHUNK_LINE_LIMIT:
            raise BadRequest("a line between chunks is too long")
        if newline >= 0:
            if not self._line.endswith(b"\r\n"):
                raise BadRequest("a line between chunks does not end in CR LF")
            line = bytes(self._line[:-2])
            self._line.clear()
            self._take_line(line)
        return end

    def _take_line(self, line: bytes) -> None:
        if self._state == "size":
            digits = line.partition(b";")[0].rstrip(b" \t")
            if not _HEX.issuperset(digits) or not 0 < len(digits) <= 15:
                raise BadRequest("the size of a chunk is not a number")
            self._remaining = int(digits, 16)
            self._state = "data" if self._remaining else "trailers"
        elif self._state == "end":
            if line:
                raise BadRequest("a chunk is longer than it said")
            self._state = "size"
        elif line:
            self._trailers += len(line)
            if self._trailers > _TRAILERS_LIMIT:
                raise BadRequest("the trailers are too long")
        else:
            self.done = True


def unquote(text: str, plus: str = "+") -> str:
    """Undo percent-encoding. Bytes that are not UTF-8 survive as the file system's names do."""
    raw = text.replace("+", plus).encode("latin-1", "replace")
    first, *rest = raw.split(b"%")
    decoded = bytearray(first)
    for part in rest:
        if len(part) >= 2 and _HEX.issuperset(part[:2]):
            decoded.append(int(part[:2], 16))
            decoded += part[2:]
        else:
            decoded += b"%" + part
    return decoded.decode("utf-8", "surrogateescape")


def parse_query(query: str) -> dict[str, str]:
    """The parameters by name; of equal ones, the first."""
    parameters: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name:
            parameters.setdefault(unquote(name, " "), unquote(value, " "))
    return parameters


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The bytes, from and up to, that a Range header asks for; `None` for all of them.

    What is malformed, of another unit or of several parts is ignored, as the standard allows.
    Raises BadRequest 416 when nothing of it exists.
    """
    unit, _, span = header.partition("=")
    first, dash, last = span.strip().partition("-")
    numbers = [text for text in (first, last) if text]
    if unit.strip().lower() != "bytes" or not dash or not numbers:
        return None
    if not all(map(_is_number, numbers)):
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise BadRequest(f"there are {size} bytes, not {span}", 416, "RANGE_NOT_SATISFIABLE")
    return start, end


class Span:
    """The part of a file that a body is: up to `end`, of `size` in all, where these are said."""

    __slots__ = ("end", "size", "start")

    def __init__(self, start: int, end: int | None = None, size: int | None = None) -> None:
        self.start = start
        self.end = end
        self.size = size


def parse_content_range(header: str) -> Span:
    """Raises BadRequest."""
    unit, _, rest = header.strip().partition(" ")
    span, slash, size = rest.strip().partition("/")
    first, dash, last = span.partition("-")
    numbers = [first, last] if size == "*" else [first, last, size]
    if unit.lower() != "bytes" or not slash or not dash or not all(map(_is_number, numbers)):
        raise BadRequest("Content-Range: bytes FIRST-LAST/SIZE is wanted, or * for the size")
    start, end = int(first), int(last) + 1
    whole = None if size == "*" else int(size)
    if start >= end or (whole is not None and end > whole):
        raise BadRequest(f"Content-Range: there are no bytes {span} of {size}")
    return Span(start, end, whole)


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 18 and _DIGITS.issuperset(text.encode("latin-1", "replace"))
