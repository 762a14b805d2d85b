"""uvicorn's HTTP, with a bound on what a request's head may hold, and errors in our shape.

uvicorn on httptools takes heads of any size, and answers what is not HTTP in plain text.
"""

from __future__ import annotations

import json
from typing import Final

from longshore_core.process.answers import describe, error_body
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from longshore_server.identity import new_id

HEAD_BYTES: Final = 64 * 1024


class Protocol(HttpToolsProtocol):
    """One connection. Counts bytes until the head of a request has ended."""

    _in_head: bool = True
    _head_bytes: int = 0
    _ended_one: bool = False

    def data_received(self, data: bytes) -> None:
        self._ended_one = False
        super().data_received(data)
        # Where a request ended in these bytes, most of them were its body.
        if self._in_head and not self._ended_one and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse("HEADERS_TOO_LARGE", f"the head is larger than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes, self._ended_one = True, 0, True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for bytes that are not a request."""
        self._refuse("BAD_REQUEST", msg)

    def _refuse(self, code: str, message: str) -> None:
        request_id = new_id()
        status = describe(code).status
        body = json.dumps(error_body(code, message, request_id)).encode()
        fields = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-request-id": request_id,
            "connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.transport.write(f"HTTP/1.1 {status} Refused\r\n{head}\r\n".encode() + body)
        self.transport.close()
