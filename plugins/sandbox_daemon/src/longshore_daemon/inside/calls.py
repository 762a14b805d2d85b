"""gRPC, for the control planes of the field: `container_daemon_pb.ContainerDaemon`.

Two unary calls, whose messages have so few fields that they are written out here. Whatever becomes
of a signal is told in the answer; a status other than OK means that the call itself is refused.
"""

from __future__ import annotations

from longshore_daemon.inside.h2 import Connection, Request, Violation
from longshore_daemon.inside.sandbox import VERSION, Sandbox
from longshore_daemon.inside.signals import HIGHEST, SIGTERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.hpack import Field
    from longshore_daemon.inside.stream import Stream

_SERVICE = b"/container_daemon_pb.ContainerDaemon/"
_INVALID_ARGUMENT, _UNIMPLEMENTED, _UNAVAILABLE, _UNAUTHENTICATED = 3, 12, 14, 16
_IDLE_SECONDS = 7200.0
_LINGER_SECONDS = 2.0
_HEAD: tuple[Field, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Refused(Exception):
    """The call is answered with a status instead of a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Calls:
    """Serves connections, one task each."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def serve(self, stream: Stream) -> None:
        connection = Connection()
        while True:
            await stream.send(bytes(connection.outgoing))
            connection.outgoing.clear()
            data = await stream.receive(_IDLE_SECONDS)
            try:
                for request in connection.feed(data):
                    self._answer(connection, request)
            except Violation as exc:
                connection.finish(exc.code, str(exc))
                await stream.send(bytes(connection.outgoing))
                await stream.linger(_LINGER_SECONDS)

    def _answer(self, connection: Connection, request: Request) -> None:
        if not request.headers.get(b"content-type", b"").startswith(b"application/grpc"):
            connection.refuse(request.stream, [(b":status", b"415")])
            return
        try:
            message = self._perform(request)
        except Refused as exc:
            connection.refuse(request.stream, (*_HEAD, *_status(exc.status, str(exc))))
            return
        body = b"\0" + len(message).to_bytes(4, "big") + message
        connection.answer(request.stream, _HEAD, body, _status(0, ""))

    def _perform(self, request: Request) -> bytes:
        method = request.headers[b":path"]
        if method == _SERVICE + b"Health":
            _read_message(request.body)
            return self._health()
        if self._sandbox.held:
            raise Refused(_UNAVAILABLE, "the sandbox is not released yet")
        token = request.headers.get(b"longshore-sandbox-token", b"").decode("latin-1")
        if not self._sandbox.has_token(token):
            message = "the metadata longshore-sandbox-token is missing or wrong"
            raise Refused(_UNAUTHENTICATED, message)
        if method == _SERVICE + b"SendSignal":
            return self._send_signal(_read_message(request.body).get(1, SIGTERM))
        raise Refused(_UNIMPLEMENTED, f"there is no method {method.decode('latin-1')}")

    def _health(self) -> bytes:
        uptime = _write_varint(int(self._sandbox.uptime_seconds))
        version = VERSION.encode()
        return b"\x08\1" + b"\x12" + _write_varint(len(version)) + version + b"\x18" + uptime

    def _send_signal(self, number: int) -> bytes:
        """To the oldest process that runs, which is the entrypoint if there is one."""
        error = self._signal_oldest(number)
        if error is None:
            return b"\x08\1"
        text = error.encode()
        return b"\x08\0" + b"\x12" + _write_varint(len(text)) + text

    def _signal_oldest(self, number: int) -> str | None:
        """What went wrong, in words."""
        processes = self._sandbox.processes.all()
        running = [process for process in processes if process.running]
        if not 0 < number <= HIGHEST:
            return f"Invalid signal number: {number}"
        if not processes:
            return "No processes spawned"
        if not running:
            return f"No running process found ({len(processes)} processes exited)"
        try:
            delivered = running[0].send_signal(number)
        except PermissionError:
            return f"Process {running[0].pid} may not be signalled"
        return None if delivered else f"Process {running[0].pid} is not running"


def _status(code: int, message: str) -> tuple[Field, ...]:
    told = "".join(c if " " <= c <= "~" and c != "%" else f"%{ord(c) & 255:02X}" for c in message)
    fields = ((b"grpc-status", b"%d" % code),)
    return (*fields, (b"grpc-message", told.encode())) if message else fields


def _read_message(body: bytes) -> dict[int, int]:
    """The numbers among the fields of the one message in a body. Raises Refused."""
    if len(body) < 5 or len(body) - 5 != int.from_bytes(body[1:5], "big"):
        raise Refused(_INVALID_ARGUMENT, "the body is not one message")
    if body[0]:
        raise Refused(_UNIMPLEMENTED, "compressed messages are not understood")
    fields: dict[int, int] = {}
    position = 5
    while position < len(body):
        key, position = _read_varint(body, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _read_varint(body, position)
            fields[key >> 3] = (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
        elif kind == _BYTES:
            length, position = _read_varint(body, position)
            position += length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            position = len(body) + 1
    if position != len(body):
        raise Refused(_INVALID_ARGUMENT, "the message is malformed")
    return fields


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        octet = data[position]
        position += 1
        value |= (octet & 127) << shift
        if octet < 128:
            return value, position
    raise Refused(_INVALID_ARGUMENT, "the message is malformed")


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)
