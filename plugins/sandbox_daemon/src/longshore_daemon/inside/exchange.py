"""One request and its answer, on a connection that may carry many."""

from __future__ import annotations

import os

from longshore_daemon.inside.http import BadRequest, Chunked, Head
from longshore_daemon.inside.jsontext import NotJSON, dumps, loads
from longshore_daemon.inside.loop import pause
from longshore_daemon.inside.stream import Disconnected, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON

BODY_SECONDS = 300.0
"""How long a client may pause in the middle of a body."""
_JSON_LIMIT = 4 << 20
_LEFTOVER_LIMIT = 262144
_REASONS = {
    101: "Switching Protocols", 200: "OK", 201: "Created", 202: "Accepted",
    204: "No Content", 206: "Partial Content", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
    413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content",
    426: "Upgrade Required", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
    505: "HTTP Version Not Supported", 507: "Insufficient Storage",
}  # fmt: skip


class ApiError(BadRequest):
    """A well-formed request that cannot be served: what to answer instead."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, status, code)
        self.retryable = retryable
        self.headers = headers


class Exchange:
    """What a route is given: the head, the body as it comes, and ways to answer once."""

    __slots__ = (
        "_body_left",
        "_chunked",
        "_continue",
        "_open_ended",
        "answered",
        "head",
        "request_id",
        "stream",
    )

    def __init__(self, stream: Stream, head: Head) -> None:
        self.stream = stream
        self.head = head
        self.request_id = _request_id(head.headers.get("x-request-id", ""))
        self.answered = False
        self._continue = head.headers.get("expect", "").lower() == "100-continue"
        self._chunked = Chunked() if head.length is None else None
        self._body_left = head.length or 0
        self._open_ended = False

    async def receive(self) -> bytes:
        """The next piece of the body; empty at its end. Raises BadRequest for a malformed one."""
        if self._continue and not self._has_ended():
            self._continue = False
            await self.stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._has_ended():
            data = await self.stream.receive(BODY_SECONDS)
            if self._chunked is not None:
                piece = self._chunked.feed(data)
                if self._chunked.rest:
                    self.stream.put_back(self._chunked.rest)
            else:
                piece, rest = data[: self._body_left], data[self._body_left :]
                self._body_left -= len(piece)
                if rest:
                    self.stream.put_back(rest)
            if piece:
                # A fast sender must not be all that there is.
                await pause()
                return piece
        return b""

    async def receive_json(self) -> JSON:
        """The whole body, read as JSON. Raises ApiError 400 or 413."""
        body = bytearray()
        while piece := await self.receive():
            body += piece
            if len(body) > _JSON_LIMIT:
                raise ApiError(413, "BODY_TOO_LARGE", f"more than {_JSON_LIMIT} bytes of JSON")
        try:
            return loads(bytes(body))
        except NotJSON as exc:
            raise ApiError(400, "INVALID_JSON", f"the body is not JSON: {exc}") from exc

    async def finish_request(self) -> bool:
        """Read away what a route left of the body. False: too much for that, so hang up."""
        if self._continue and not self._has_ended():
            return False
        left = _LEFTOVER_LIMIT
        while left > 0 and (piece := await self.receive()):
            left -= len(piece)
        return self._has_ended()

    def leave_body(self) -> None:
        """What is left of it will not be read: the connection ends after the answer."""
        if not self._has_ended():
            self.head.keep_alive = False

    def _has_ended(self) -> bool:
        return self._chunked.done if self._chunked is not None else not self._body_left

    async def answer(self, status: int, value: JSON, *headers: tuple[str, str]) -> None:
        body = dumps(value)
        head = self._begin(
            status,
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            *headers,
        )
        await self.stream.send(head + body if self.wants_body else head)

    async def answer_nothing(self) -> None:
        await self.stream.send(self._begin(204))

    async def answer_error(self, error: BadRequest) -> None:
        message = str(error)
        body: JSON = {
            "error": message,
            "code": error.code,
            "message": message,
            "retryable": error.retryable,
            "request_id": self.request_id,
        }
        await self.answer(error.status, body, *error.headers)

    async def open(
        self, status: int, content_type: str, length: int | None, *headers: tuple[str, str]
    ) -> None:
        """Begin an answer of `length` bytes; `None`: of as many as will be sent until `close`.

        To HEAD, the head is all there is: look at `wants_body`.
        """
        self._open_ended = length is None
        if length is not None:
            headers = (("Content-Length", str(length)), *headers)
        await self.stream.send(self._begin(status, ("Content-Type", content_type), *headers))

    async def upgrade(self, protocol: str, *headers: tuple[str, str]) -> None:
        """From now on, the connection speaks another protocol, to its end."""
        self.head.keep_alive = True
        head = self._begin(101, ("Upgrade", protocol), ("Connection", "Upgrade"), *headers)
        self.head.keep_alive = False
        await self.stream.send(head)

    @property
    def wants_body(self) -> bool:
        return self.head.method != "HEAD"

    async def send(self, data: bytes) -> None:
        if data:
            if self._open_ended and self.head.keep_alive:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            await self.stream.send(data)

    async def close(self) -> None:
        """End an answer of no given length; without keep-alive, hanging up does that."""
        if self.head.keep_alive:
            await self.stream.send(b"0\r\n\r\n")

    def _begin(self, status: int, *fields: tuple[str, str]) -> bytes:
        if self.answered:
            raise Disconnected("an answer that had begun cannot be completed")
        self.answered = True
        if self._continue and not self._has_ended():
            # The client may send its body or not: what follows cannot be told apart.
            self.head.keep_alive = False
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"X-Request-Id: {self.request_id}"]
        lines += [f"{name}: {value}" for name, value in fields]
        if not self.head.keep_alive:
            lines.append("Connection: close")
        elif self._open_ended:
            lines.append("Transfer-Encoding: chunked")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def _request_id(given: str) -> str:
    if 0 < len(given) <= 128 and all(33 <= ord(character) < 127 for character in given):
        return given
    return os.urandom(8).hex()
