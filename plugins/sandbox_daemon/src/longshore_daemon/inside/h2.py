"""HTTP/2 (RFC 9113) as a server of small calls speaks it: no input or output.

Requests are handed on whole, and answered whole. What arrives of a body is acknowledged at once, as
far as a body may go at all; what leaves keeps to the client's windows. A connection error is a
Violation: what has been queued is to be sent, and the connection to be closed.
"""

from __future__ import annotations

from struct import Struct, pack

from longshore_daemon.inside.hpack import Decoder, Malformed, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from longshore_daemon.inside.hpack import Field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 0, 1, 3, 6
REFUSED_STREAM, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 9, 11
BODY_LIMIT = 65536
_HEAD_LIMIT = 16384
_STREAM_LIMIT = 100
_FRAME_LIMIT = 16384
_WINDOW = 65535
_WINDOW_LIMIT = (1 << 31) - 1
_FRAME = Struct(">BHBBI")
_SETTING = Struct(">HI")
_PSEUDO = (b":method", b":scheme", b":path", b":authority")
_MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEAD = 3, 4, 5, 6


class Violation(Exception):
    """The client breaks the protocol, so that nothing it says can be relied on any more."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Request:
    """One that has come whole."""

    __slots__ = ("body", "headers", "stream")

    def __init__(self, stream: int, headers: dict[bytes, bytes], body: bytes) -> None:
        self.stream = stream
        self.headers = headers
        self.body = body


class _Stream:
    """A request on its way here, then its answer on its way out."""

    __slots__ = ("body", "headers", "left", "trailers", "window")

    def __init__(self, headers: dict[bytes, bytes], window: int) -> None:
        self.headers = headers
        self.body: bytearray | None = bytearray()
        """`None` once it has come whole."""
        self.window = window
        """How much may be sent."""
        self.left: bytes | None = None
        """What is still to be sent; `None` before there is an answer."""
        self.trailers = b""


class Connection:
    """One client. Feed it what arrives; send away what is in `outgoing`."""

    def __init__(self) -> None:
        settings = ((_MAX_STREAMS, _STREAM_LIMIT), (_MAX_HEAD, _HEAD_LIMIT))
        payload = b"".join(_SETTING.pack(*setting) for setting in settings)
        self.outgoing = bytearray(_frame(SETTINGS, 0, 0, payload))
        self._incoming = bytearray()
        self._decoder = Decoder()
        self._streams: dict[int, _Stream] = {}
        self._latest = 0
        self._greeted = False
        self._settled = False
        self._block: tuple[int, int, bytearray] | None = None
        """A header block that has begun: its stream, its flags, and what has come of it."""
        self._window = _WINDOW
        self._initial_window = _WINDOW

    def feed(self, data: bytes) -> Iterator[Request]:
        """The requests that are whole now. Raises Violation."""
        self._incoming += data
        if not self._greeted:
            if not PREFACE.startswith(self._incoming[: len(PREFACE)]):
                raise Violation(PROTOCOL_ERROR, "this is not HTTP/2")
            if len(self._incoming) < len(PREFACE):
                return
            del self._incoming[: len(PREFACE)]
            self._greeted = True
        while len(self._incoming) >= _FRAME.size:
            high, low, kind, flags, stream = _FRAME.unpack_from(self._incoming)
            length = high << 16 | low
            if length > _FRAME_LIMIT:
                raise Violation(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = _FRAME.size + length
            if len(self._incoming) < end:
                return
            payload = bytes(memoryview(self._incoming)[_FRAME.size : end])
            del self._incoming[:end]
            request = self._receive(kind, flags, stream & _WINDOW_LIMIT, payload)
            if request is not None:
                yield request

    def answer(
        self, stream: int, fields: Iterable[Field], body: bytes, trailers: Iterable[Field]
    ) -> None:
        """Nothing happens when the client has cancelled the request."""
        open_stream = self._streams.get(stream)
        if open_stream is None:
            return
        self.outgoing += _frame(HEADERS, END_HEADERS, stream, encode(fields))
        open_stream.left, open_stream.trailers = body, encode(trailers)
        self._send_data(stream, open_stream)

    def refuse(self, stream: int, fields: Iterable[Field]) -> None:
        """An answer that is a head only."""
        if self._streams.pop(stream, None) is not None:
            self.outgoing += _frame(HEADERS, END_HEADERS | END_STREAM, stream, encode(fields))

    def finish(self, code: int = NO_ERROR, message: str = "") -> None:
        """Nothing follows this."""
        payload = pack(">II", self._latest, code) + message.encode()
        self.outgoing += _frame(GOAWAY, 0, 0, payload)

    def _receive(self, kind: int, flags: int, stream: int, payload: bytes) -> Request | None:
        if self._block is not None and (kind != CONTINUATION or stream != self._block[0]):
            raise Violation(PROTOCOL_ERROR, "a header block is interrupted")
        if not self._settled and kind != SETTINGS:
            raise Violation(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind in (SETTINGS, PING, GOAWAY):
            if stream:
                raise Violation(PROTOCOL_ERROR, f"a frame of kind {kind} is for a stream")
            self._receive_of_connection(kind, flags, payload)
            return None
        if kind == WINDOW_UPDATE:
            self._widen(stream, payload)
            return None
        if kind <= CONTINUATION and not stream:
            raise Violation(PROTOCOL_ERROR, f"a frame of kind {kind} is for no stream")
        if kind == DATA:
            return self._receive_data(flags, stream, payload)
        if kind in (HEADERS, CONTINUATION):
            return self._receive_headers(kind, flags, stream, payload)
        if kind == RST_STREAM:
            self._check_length(payload, 4)
            self._check_known(stream)
            self._streams.pop(stream, None)
        elif kind == PRIORITY:
            self._check_length(payload, 5)
        elif kind == PUSH_PROMISE:
            raise Violation(PROTOCOL_ERROR, "a client cannot push")
        # Any other kind is an extension: to be ignored.
        return None

    def _receive_of_connection(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == PING:
            self._check_length(payload, 8)
            if not flags & ACK:
                self.outgoing += _frame(PING, ACK, 0, payload)
        elif kind == SETTINGS and flags & ACK:
            self._check_length(payload, 0)
        elif kind == SETTINGS:
            if len(payload) % _SETTING.size:
                raise Violation(FRAME_SIZE_ERROR, "the settings are not of six bytes each")
            self._settled = True
            for name, value in _SETTING.iter_unpack(payload):
                self._set(name, value)
            self.outgoing += _frame(SETTINGS, ACK, 0)

    def _set(self, name: int, value: int) -> None:
        if name == _INITIAL_WINDOW:
            if value > _WINDOW_LIMIT:
                raise Violation(FLOW_CONTROL_ERROR, f"a window of {value} bytes")
            change, self._initial_window = value - self._initial_window, value
            for number, stream in list(self._streams.items()):
                stream.window += change
                if stream.window > _WINDOW_LIMIT:
                    raise Violation(FLOW_CONTROL_ERROR, f"a window of {stream.window} bytes")
                self._send_data(number, stream)
        elif name == _MAX_FRAME and not _FRAME_LIMIT <= value < 1 << 24:
            raise Violation(PROTOCOL_ERROR, f"frames of {value} bytes")

    def _receive_headers(
        self, kind: int, flags: int, stream: int, payload: bytes
    ) -> Request | None:
        if kind == HEADERS:
            payload = _unpad(flags, payload)
            payload = payload[5:] if flags & PRIORITIZED else payload
            self._block = (stream, flags, bytearray(payload))
        elif self._block is None:
            raise Violation(PROTOCOL_ERROR, "a header block goes on that has not begun")
        else:
            self._block[2].extend(payload)
        _, first_flags, block = self._block
        if len(block) > _HEAD_LIMIT:
            raise Violation(ENHANCE_YOUR_CALM, f"a head of more than {_HEAD_LIMIT} bytes")
        if not flags & END_HEADERS:
            return None
        self._block = None
        try:
            fields = self._decoder.decode(bytes(block))
        except Malformed as exc:
            raise Violation(COMPRESSION_ERROR, str(exc)) from exc
        return self._begin(stream, fields, bool(first_flags & END_STREAM))

    def _begin(self, stream: int, fields: list[Field], ended: bool) -> Request | None:
        """A request; or its trailers, which nobody asks for."""
        if stream > self._latest:
            if not stream % 2:
                raise Violation(PROTOCOL_ERROR, f"a client has opened the stream {stream}")
            self._latest = stream
            headers = _headers(fields)
            if headers is None:
                self._reset(stream, PROTOCOL_ERROR)
            elif len(self._streams) >= _STREAM_LIMIT:
                self._reset(stream, REFUSED_STREAM)
            else:
                self._streams[stream] = _Stream(headers, self._initial_window)
        elif stream in self._streams and not ended:
            self._reset(stream, PROTOCOL_ERROR)
        return self._complete(stream) if ended else None

    def _receive_data(self, flags: int, stream: int, payload: bytes) -> Request | None:
        self._check_known(stream)
        if payload:
            self.outgoing += _frame(WINDOW_UPDATE, 0, 0, pack(">I", len(payload)))
        data = _unpad(flags, payload)
        open_stream = self._streams.get(stream)
        # One that was reset, or has been answered, may still have data on its way here.
        if open_stream is None or open_stream.body is None:
            return None
        open_stream.body += data
        if len(open_stream.body) > BODY_LIMIT:
            self._reset(stream, ENHANCE_YOUR_CALM)
            return None
        if flags & END_STREAM:
            return self._complete(stream)
        if payload:
            self.outgoing += _frame(WINDOW_UPDATE, 0, stream, pack(">I", len(payload)))
        return None

    def _complete(self, stream: int) -> Request | None:
        open_stream = self._streams.get(stream)
        if open_stream is None or open_stream.body is None:
            return None
        body, open_stream.body = bytes(open_stream.body), None
        return Request(stream, open_stream.headers, body)

    def _widen(self, stream: int, payload: bytes) -> None:
        self._check_length(payload, 4)
        increment = int.from_bytes(payload, "big") & _WINDOW_LIMIT
        if not stream:
            self._window += increment
            if not increment or self._window > _WINDOW_LIMIT:
                raise Violation(FLOW_CONTROL_ERROR, f"a window is widened by {increment}")
            for number, waiting in list(self._streams.items()):
                self._send_data(number, waiting)
            return
        self._check_known(stream)
        open_stream = self._streams.get(stream)
        if open_stream is not None:
            open_stream.window += increment
            if not increment or open_stream.window > _WINDOW_LIMIT:
                self._reset(stream, FLOW_CONTROL_ERROR)
            else:
                self._send_data(stream, open_stream)

    def _send_data(self, number: int, stream: _Stream) -> None:
        """As much of the answer as the windows allow; with the last of it, its end."""
        while stream.left:
            room = min(stream.window, self._window, _FRAME_LIMIT)
            if room <= 0:
                return
            part, stream.left = stream.left[:room], stream.left[room:]
            stream.window -= len(part)
            self._window -= len(part)
            self.outgoing += _frame(DATA, 0, number, part)
        if stream.left is not None:
            flags = END_HEADERS | END_STREAM
            self.outgoing += _frame(HEADERS, flags, number, stream.trailers)
            del self._streams[number]

    def _reset(self, stream: int, code: int) -> None:
        self._streams.pop(stream, None)
        self.outgoing += _frame(RST_STREAM, 0, stream, pack(">I", code))

    def _check_known(self, stream: int) -> None:
        if stream > self._latest:
            raise Violation(PROTOCOL_ERROR, f"the stream {stream} has not begun")

    def _check_length(self, payload: bytes, length: int) -> None:
        if len(payload) != length:
            raise Violation(FRAME_SIZE_ERROR, f"{len(payload)} bytes where {length} belong")


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return _FRAME.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def _unpad(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Violation(PROTOCOL_ERROR, "more padding than there is")
    return payload[1 : len(payload) - payload[0]]


def _headers(fields: list[Field]) -> dict[bytes, bytes] | None:
    """By name, the last of each; `None` when they are not a request's."""
    headers: dict[bytes, bytes] = {}
    is_first_part = True
    for name, value in fields:
        is_first_part = is_first_part and name in _PSEUDO
        if name.startswith(b":") and (not is_first_part or name in headers):
            return None
        if name != name.lower() or name in (b"", b"connection", b"upgrade"):
            return None
        headers[name] = value
    return headers if headers.keys() >= {b":method", b":scheme", b":path"} else None
