"""WebSocket frames (RFC 6455) as read and written by a server: no input or output.

Strict, as the standard wants a server to be: what a client sends is masked, no bit is set that was
not agreed on, lengths are written in their shortest form. Data frames are handed on as they come,
so that none is held here: who wants whole messages puts them together, up to a limit of its own.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from struct import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from hashlib import sha1
else:
    # `hashlib` would load OpenSSL.
    from _sha1 import sha1

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, UNSUPPORTED = 1000, 1001, 1002, 1003
INVALID_TEXT, POLICY, TOO_BIG, INTERNAL_ERROR = 1007, 1008, 1009, 1011
_OPCODES = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
_CONTROL_LIMIT = 125
_REASON_LIMIT = 123
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Violation(Exception):
    """What came breaks the protocol. `code` is what to close with."""

    def __init__(self, message: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


class Piece:
    """A part of a message, or a whole control frame."""

    __slots__ = ("data", "last", "opcode")

    def __init__(self, opcode: int, data: bytes, last: bool) -> None:
        self.opcode = opcode
        """That of the message, also in its continuations."""
        self.data = data
        self.last = last
        """The message ends here."""


class Frames:
    """Takes apart what a client sends. Raises Violation, and is of no use from then on."""

    __slots__ = ("_final", "_frame", "_left", "_mask", "_message", "_pending")

    def __init__(self) -> None:
        self._pending = bytearray()
        self._message: int | None = None
        """The opcode of the message whose end has not come yet."""
        self._frame = CONTINUATION
        self._final = True
        self._mask = b""
        """Of the frame that is coming; empty between frames."""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Piece]:
        self._pending += data
        while True:
            if not self._mask and not self._read_head():
                return
            if self._frame >= CLOSE and len(self._pending) < self._left:
                return
            payload = self._take()
            if payload is not None:
                yield payload
            if self._left:
                return
            self._mask = b""

    def _read_head(self) -> bool:
        """False: it has not all come yet."""
        if len(self._pending) < 2:
            return False
        first, second = self._pending[0], self._pending[1]
        self._check(first, second)
        length, size = second & 0x7F, 2
        if length >= 126:
            size = 4 if length == 126 else 10
            if len(self._pending) < size:
                return False
            length = int.from_bytes(self._pending[2:size], "big")
            if length < 126 or (size == 10 and not 65536 <= length < 1 << 63):
                raise Violation("the length of a frame is not in its shortest form")
        if len(self._pending) < size + 4:
            return False
        self._mask = bytes(self._pending[size : size + 4])
        del self._pending[: size + 4]
        self._left, self._frame, self._final = length, first & 0x0F, bool(first & 0x80)
        return True

    def _check(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise Violation("a reserved bit is set")
        if opcode not in _OPCODES:
            raise Violation(f"there is no opcode {opcode}")
        if not second & 0x80:
            raise Violation("a frame is not masked")
        if opcode >= CLOSE:
            if not first & 0x80 or second & 0x7F > _CONTROL_LIMIT:
                raise Violation("a control frame is fragmented or too long")
        elif (opcode == CONTINUATION) is (self._message is None):
            raise Violation("a message begins in another, or goes on without having begun")

    def _take(self) -> Piece | None:
        """What has come of the frame; `None`: nothing to speak of."""
        length = min(self._left, len(self._pending))
        data = _unmask(bytes(self._pending[:length]), self._mask)
        del self._pending[:length]
        self._mask = self._mask[length % 4 :] + self._mask[: length % 4]
        self._left -= length
        if self._frame >= CLOSE:
            return Piece(self._frame, data, True)
        if self._frame != CONTINUATION:
            # Looked at again for each part of a frame, which does no harm.
            self._message = self._frame
        last = self._final and not self._left
        opcode = self._message or CONTINUATION
        if last:
            self._message = None
        return Piece(opcode, data, last) if data or last else None


def _unmask(data: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    number = int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")
    return number.to_bytes(len(data), "little")


def encode(opcode: int, *payload: bytes) -> bytes:
    """A whole frame as a server sends it."""
    length = sum(map(len, payload))
    if length < 126:
        head = pack("!BB", 0x80 | opcode, length)
    elif length < 65536:
        head = pack("!BBH", 0x80 | opcode, 126, length)
    else:
        head = pack("!BBQ", 0x80 | opcode, 127, length)
    return b"".join((head, *payload))


def encode_close(code: int, reason: str) -> bytes:
    return encode(CLOSE, pack("!H", code), reason.encode()[:_REASON_LIMIT])


def read_close(payload: bytes) -> int:
    """The code that a client closes with, to be said back to it. Raises Violation."""
    if not payload:
        return NORMAL
    if len(payload) < 2:
        raise Violation("a close frame has half a code")
    (code,) = unpack("!H", payload[:2])
    if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) and not 3000 <= code < 5000:
        raise Violation(f"nothing may be closed with {code}")
    try:
        payload[2:].decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Violation("the reason of a close frame is not UTF-8", INVALID_TEXT) from exc
    return int(code)


def accept_key(key: str) -> str | None:
    """The answer to `Sec-WebSocket-Key`; `None` when that is not what it should be."""
    raw = key.encode("latin-1", "replace")
    try:
        if len(raw) != 24 or len(a2b_base64(raw, strict_mode=True)) != 16:
            return None
    except ValueError:
        return None
    return b2a_base64(sha1(raw + _ACCEPT).digest(), newline=False).decode("ascii")
