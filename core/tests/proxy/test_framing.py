"""Where bodies end: what is refused because it could be read in two ways, and h11 as the oracle."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core._errors import GuestError, RequestError
from longshore_core._heads import RequestHead, ResponseHead
from longshore_core._proxy.framing import (
    ChunkScanner,
    LengthScanner,
    connection_options,
    hop_by_hop,
    request_scanner,
    response_scanner,
    upgrade_asked,
)
from longshore_core._proxy.grammar import bad_request
from longshore_core._proxy.response import ResponseReader, end_to_end, outgoing

HEX = st.sampled_from([b"%x", b"%X", b"0%x"])
CHUNKS = st.lists(
    st.tuples(
        HEX, st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";a=b", b"; x", b';q="z"'])
    ),
    max_size=5,
)
TRAILERS = st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC:\r\n"])


def chunked(chunks: list[tuple[bytes, bytes, bytes]], trailers: bytes = b"") -> bytes:
    lines = [size % len(data) + extra + b"\r\n" + data + b"\r\n" for size, data, extra in chunks]
    return b"".join(lines) + b"0\r\n" + trailers + b"\r\n"


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(at)]


@given(CHUNKS, TRAILERS, st.binary(max_size=20), st.lists(st.integers(0, 10_000), max_size=12))
def test_the_end_of_a_chunked_body_is_found_however_it_is_cut(
    chunks: list[tuple[bytes, bytes, bytes]], trailers: bytes, after: bytes, cuts: list[int]
) -> None:
    body = chunked(chunks, trailers)
    scanner, taken = ChunkScanner(bad_request), 0
    for piece in pieces(body + after, cuts):
        if not scanner.done:
            taken += scanner.scan(piece)
    assert scanner.done
    assert taken == len(body)


def h11_body(body: bytes) -> tuple[bool, int] | None:
    """Whether h11 finds the end, and how many bytes it leaves; `None`: malformed."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.next_event()
    connection.receive_data(body)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                return True, len(connection.trailing_data[0])
            if event is h11.NEED_DATA:
                return False, 0
    except h11.RemoteProtocolError:
        return None


MUTATIONS = st.tuples(st.integers(0, 200), st.sampled_from([b"\r", b"\n", b"0", b";", b" ", b"g"]))


@given(CHUNKS, TRAILERS, st.one_of(st.none(), MUTATIONS))
def test_a_chunked_body_that_passes_h11_reads_to_the_same_end(
    chunks: list[tuple[bytes, bytes, bytes]],
    trailers: bytes,
    mutation: tuple[int, bytes] | None,
) -> None:
    body = chunked(chunks, trailers)
    if mutation is not None:
        at = mutation[0] % len(body)
        body = body[:at] + mutation[1] + body[at + 1 :]
    scanner = ChunkScanner(bad_request)
    try:
        end = scanner.scan(body)
    except RequestError:
        return
    if scanner.done:
        assert h11_body(body) == (True, len(body) - end)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"g\r\n", "Malformed chunk size"),
        (b"-1\r\n", "Malformed chunk size"),
        (b"+1\r\n", "Malformed chunk size"),
        (b"0x1\r\n", "Malformed chunk size"),
        (b"1_0\r\n", "Malformed chunk size"),
        (b" 1\r\n", "Malformed chunk size"),
        (b"1 ;a\r\n", "Malformed chunk size"),
        (b"1 \r\n", "Malformed chunk size"),
        (b"\r\n", "Malformed chunk size"),
        (b"1\na\r\n", "Malformed chunk size"),
        (b"1;a\rb\r\n", "Malformed chunk size"),
        (b"f" * 16 + b"\r\n", "Malformed chunk size"),
        (b"1\r\nab", "A chunk is longer than its size says"),
        (b"1\r\na\n", "A chunk is longer than its size says"),
        (b"0\r\nA : b\r\n", "Malformed trailer"),
        (b"0\r\n A: b\r\n", "Malformed trailer"),
        (b"1;" + b"a" * 5000, "The line with a chunk's size is too long"),
        (b"0\r\n" + b"A: b\r\n" * 20000, "The trailers are too long"),
    ],
)
def test_a_malformed_chunk_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        ChunkScanner(bad_request).scan(body)
    assert str(caught.value) == message


@given(st.integers(0, 100), st.lists(st.integers(0, 60), max_size=10))
def test_a_body_of_known_length_takes_exactly_that(length: int, sizes: list[int]) -> None:
    scanner, taken = LengthScanner(length), 0
    for size in sizes:
        taken += scanner.scan(bytes(size))
    assert taken == min(length, sum(sizes))
    assert scanner.done == (taken == length)


def request(*fields: tuple[bytes, bytes], version: bytes = b"1.1") -> RequestHead:
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    return RequestHead(b"POST / HTTP/" + version + b"\r\n" + lines + b"\r\n")


CL, TE = b"Content-Length", b"Transfer-Encoding"
SMUGGLED = [
    ([(CL, b"3"), (TE, b"chunked")], 400, "Both Content-Length and Transfer-Encoding"),
    ([(CL, b"3"), (b"content-length", b"3")], 400, "Content-Length is given more than once"),
    ([(CL, b"3, 3")], 400, "Malformed Content-Length"),
    ([(CL, b"+3")], 400, "Malformed Content-Length"),
    ([(CL, b"0x3")], 400, "Malformed Content-Length"),
    ([(CL, b"")], 400, "Malformed Content-Length"),
    ([(CL, b"1" * 19)], 400, "Malformed Content-Length"),
    ([(TE, b"chunked"), (TE, b"chunked")], 400, "Transfer-Encoding is given more than once"),
    ([(TE, b"gzip, chunked")], 501, "The only transfer coding served is chunked"),
    ([(TE, b"xchunked")], 501, "The only transfer coding served is chunked"),
    ([(TE, b"")], 501, "The only transfer coding served is chunked"),
]


@pytest.mark.parametrize(("fields", "status", "message"), SMUGGLED)
def test_a_request_whose_length_is_in_doubt_is_refused(
    fields: list[tuple[bytes, bytes]], status: int, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        request_scanner(request(*fields))
    assert (caught.value.status, str(caught.value)) == (status, message)


def test_chunks_need_http_1_1() -> None:
    with pytest.raises(RequestError, match=r"Transfer-Encoding with HTTP/1\.0"):
        request_scanner(request((TE, b"chunked"), version=b"1.0"))


def test_a_request_without_a_length_has_no_body() -> None:
    assert request_scanner(request()).done


def response(raw: bytes) -> ResponseHead:
    return ResponseHead(b"HTTP/1.1 " + raw + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "method"),
    [(b"200 OK\r\nContent-Length: 9", b"HEAD"), (b"204 No\r\nContent-Length: 9", b"GET"),
     (b"304 Not\r\nTransfer-Encoding: chunked", b"GET"), (b"200 OK\r\nContent-Length: 0", b"GET")],
)  # fmt: skip
def test_a_response_that_cannot_have_a_body_has_none(raw: bytes, method: bytes) -> None:
    assert response_scanner(response(raw), method).done


@pytest.mark.parametrize(
    "raw",
    [b"200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
     b"200 OK\r\nContent-Length: 1\r\nContent-Length: 1", b"200 OK\r\nTransfer-Encoding: gzip"],
)  # fmt: skip
def test_a_response_whose_length_is_in_doubt_is_the_sandboxs_fault(raw: bytes) -> None:
    with pytest.raises(GuestError):
        response_scanner(response(raw), b"GET")


def test_what_connection_names_goes_no_further() -> None:
    names = hop_by_hop(connection_options(request((b"Connection", b"close, X-Mine"))))
    assert {b"x-mine", b"close", b"te", b"upgrade", b"keep-alive"} <= set(names)


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"Host"])
def test_connection_may_not_name_what_says_what_the_message_is(name: bytes) -> None:
    with pytest.raises(RequestError, match="Connection names a header that every hop needs"):
        hop_by_hop(connection_options(request((b"Connection", name))))


def test_an_upgrade_needs_to_be_named_in_connection() -> None:
    head = request((b"Upgrade", b"websocket"))
    assert upgrade_asked(head, connection_options(head)) is None
    head = head.with_((b"Connection", b"keep-alive, Upgrade"))
    assert upgrade_asked(head, connection_options(head)) == b"websocket"


def test_h2c_is_never_tunnelled() -> None:
    head = request((b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"H2C"))
    assert upgrade_asked(head, connection_options(head)) is None


@given(st.binary(max_size=30), st.integers(1, 9))
def test_a_response_is_read_however_it_is_cut(body: bytes, step: int) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    reader = ResponseReader(RequestHead.of(b"GET", b"/"), 100)
    seen = list[int]()
    rest, data = b"", raw + body
    while data:
        head, data = reader.next_head(data[:step]), data[step:]
        while head is not None:
            seen.append(head.status)
            if head.status == 200:
                rest = reader.begin_body(head) + data
                data = b""
                break
            head = reader.next_head(b"")
    assert seen == [100, 200]
    assert reader.scan(rest) == len(body)
    assert reader.done
    assert reader.keeps


def test_a_response_head_without_end_is_given_up() -> None:
    reader = ResponseReader(RequestHead.of(b"GET", b"/"), 100)
    with pytest.raises(GuestError, match="the head of the sandbox's response is too large"):
        reader.next_head(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100)


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [(b"1.1", b"", True), (b"1.1", b"Connection: close\r\n", False), (b"1.0", b"", False),
     (b"1.0", b"Connection: Keep-Alive\r\n", True)],
)  # fmt: skip
def test_a_connection_is_kept_as_the_sandbox_says(
    version: bytes, connection: bytes, keeps: bool
) -> None:
    raw = b"HTTP/%b 200 OK\r\n%bContent-Length: 0\r\n\r\n" % (version, connection)
    reader = ResponseReader(RequestHead.of(b"GET", b"/"), 1000)
    head = reader.next_head(raw)
    assert head is not None
    reader.begin_body(head)
    assert reader.keeps is keeps


def test_a_response_leaves_with_our_version_and_our_connection() -> None:
    head = ResponseHead(b"HTTP/1.0 200 Fine\r\nConnection: X\r\nX: y\r\nKeep-Alive: 5\r\n\r\n")
    raw = outgoing(end_to_end(head), close=True)
    assert raw == b"HTTP/1.1 200 Fine\r\nConnection: close\r\n\r\n"
