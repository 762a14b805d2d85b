"""What reaches the server before it is a request."""

from __future__ import annotations

import contextlib
import json

import anyio

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


async def answer_to(port: int, data: bytes) -> tuple[bytes, dict[str, object]]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        with contextlib.suppress(*GONE):
            await stream.send(data)  # it may hang up, having read enough
        received = b""
        with contextlib.suppress(*GONE):
            while True:
                received += await stream.receive()
    head, _, body = received.partition(b"\r\n\r\n")
    return head, json.loads(body)


async def test_a_head_without_an_end_is_refused_in_our_shape(shared_server) -> None:
    pad = b"X-Pad: " + b"a" * 8000 + b"\r\n"
    data = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + pad * 9
    head, body = await answer_to(shared_server.http.base_url.port, data)
    assert head.startswith(b"HTTP/1.1 431 ")
    assert body["code"] == "HEADERS_TOO_LARGE"
    assert body["request_id"]


async def test_one_endless_field_is_refused_too(shared_server) -> None:
    data = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Pad: " + b"a" * 70_000
    head, _ = await answer_to(shared_server.http.base_url.port, data)
    assert head.startswith(b"HTTP/1.1 431 ")


async def test_bytes_that_are_not_http_are_refused_in_our_shape(shared_server) -> None:
    head, body = await answer_to(shared_server.http.base_url.port, b"\x16\x03\x01 hello\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body["code"] == "BAD_REQUEST"


async def test_a_large_body_is_not_taken_for_a_large_head(shared_server) -> None:
    body = b'{"image": "' + b"a" * 200_000 + b'"}'
    head = b"POST /sandboxes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    data = head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    answered, _ = await answer_to(shared_server.http.base_url.port, data)
    assert answered.startswith(b"HTTP/1.1 200 ")
