from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_daemon.inside import h2
from longshore_daemon.inside.h2 import PREFACE, Connection, Request, Violation
from longshore_daemon.inside.hpack import STATIC, Decoder, Malformed, encode

FIELDS = st.lists(
    st.one_of(st.sampled_from(STATIC), st.tuples(st.binary(min_size=1), st.binary(max_size=300)))
)
# RFC 7541, appendix C: requests without and with Huffman coding, and responses in a small table.
VECTORS = [
    (
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        ["www.example.com", "no-cache", "custom-value"],
    ),
    (
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        ["www.example.com", "no-cache", "custom-value"],
    ),
    (
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff"
            "6e919d29ad171863c78f0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335df"
            "dfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        [
            "https://www.example.com",
            "https://www.example.com",
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ],
    ),
]


class TestHeaderCompression:
    @pytest.mark.parametrize(("blocks", "last"), VECTORS)
    def test_the_standards_examples_are_read(self, blocks: list[str], last: list[str]) -> None:
        decoder = Decoder()
        for block, value in zip(blocks, last, strict=True):
            assert decoder.decode(bytes.fromhex(block))[-1][1].decode() == value

    @given(st.lists(FIELDS, max_size=3))
    def test_what_is_written_can_be_read(self, blocks: list[list[tuple[bytes, bytes]]]) -> None:
        decoder = Decoder()
        for fields in blocks:
            assert decoder.decode(encode(fields)) == fields

    @given(st.binary())
    def test_whatever_comes_is_read_or_refused(self, block: bytes) -> None:
        try:
            fields = Decoder().decode(block)
        except Malformed:
            return
        assert all(isinstance(part, bytes) for field in fields for part in field)

    @pytest.mark.parametrize(
        ("block", "message"),
        [
            ("80", "the table has no entry 0"),
            ("be", "the table has no entry 62"),
            ("3fe21f", "a table of 4097 bytes was not agreed on"),
            ("8220", "a table is resized in the middle of a block"),
            ("00", "a block ends too early"),
            ("ff", "a block ends too early"),
            ("ffffffffffff", "a number is too large"),
            ("000361", "a string is longer than its block"),
            ("008100", "a string ends in the middle of a character"),
            ("0084ffffffff", "a string ends in the middle of a character"),
        ],
    )
    def test_what_is_malformed_is_told(self, block: str, message: str) -> None:
        with pytest.raises(Malformed, match=message):
            Decoder().decode(bytes.fromhex(block))

    def test_entries_make_room_for_new_ones(self) -> None:
        decoder = Decoder()
        large = b"\x40\x01a\x7f\xe1\x0e" + b"x" * 2016
        for _ in range(2):
            decoder.decode(large)
        assert decoder.decode(b"\xbe") == [(b"a", b"x" * 2016)]
        with pytest.raises(Malformed):
            decoder.decode(b"\xbf")


REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + pack(">BBI", kind, flags, stream) + payload


def head(stream: int = 1, flags: int = h2.END_HEADERS, fields: Any = REQUEST) -> bytes:
    return frame(h2.HEADERS, flags, stream, encode(fields))


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(h2.DATA, flags, stream, payload)


HELLO = PREFACE + frame(h2.SETTINGS)


def frames(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    """What the connection has to send."""
    found, rest = list[tuple[int, int, int, bytes]](), bytes(connection.outgoing)
    connection.outgoing.clear()
    while rest:
        length = int.from_bytes(rest[:3], "big")
        found.append((rest[3], rest[4], int.from_bytes(rest[5:9], "big"), rest[9 : 9 + length]))
        rest = rest[9 + length :]
    return found


def kinds(connection: Connection) -> list[int]:
    return [kind for kind, *_ in frames(connection)]


def open_connection(settings: bytes = b"") -> Connection:
    connection = Connection()
    assert list(connection.feed(PREFACE + frame(h2.SETTINGS, 0, 0, settings))) == []
    assert kinds(connection) == [h2.SETTINGS, h2.SETTINGS]
    return connection


def answered(connection: Connection, stream: int, body: bytes) -> None:
    connection.answer(stream, [(b":status", b"200")], body, [(b"grpc-status", b"0")])


class TestConnection:
    @given(st.integers(1, 40), st.binary(max_size=300), st.booleans())
    def test_a_request_is_the_same_however_its_bytes_arrive(
        self, step: int, body: bytes, padded: bool
    ) -> None:
        block = encode(REQUEST)
        payload = b"\x05" + bytes(4) + b"\x10" + block[:3] + bytes(5)
        raw = HELLO + frame(h2.HEADERS, h2.PADDED | h2.PRIORITIZED, 1, payload)
        raw += frame(h2.CONTINUATION, h2.END_HEADERS, 1, block[3:]) + data(1, body[:100])
        rest = bytes([7]) + body[100:] + bytes(7) if padded else body[100:]
        raw += data(1, rest, h2.END_STREAM | (h2.PADDED if padded else 0))
        connection, found = Connection(), list[Request]()
        for position in range(0, len(raw), step):
            found += connection.feed(raw[position : position + step])
        (request,) = found
        assert (request.stream, request.headers, request.body) == (1, dict(REQUEST), body)

    @given(
        st.lists(st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 5), st.binary()))
    )
    def test_whatever_comes_is_understood_or_a_violation(
        self, sent: list[tuple[int, int, int, bytes]]
    ) -> None:
        connection = Connection()
        raw = HELLO + b"".join(frame(*one) for one in sent)
        try:
            for request in connection.feed(raw):
                answered(connection, request.stream, b"x")
        except Violation as exc:
            connection.finish(exc.code, str(exc))
        assert frames(connection)

    def test_an_answer_is_head_body_and_trailers(self) -> None:
        connection = open_connection()
        (request,) = connection.feed(head(flags=h2.END_HEADERS | h2.END_STREAM))
        answered(connection, request.stream, b"body")
        (first, _, _, status), (second, _, _, body), (third, flags, _, end) = frames(connection)
        assert (first, second, third) == (h2.HEADERS, h2.DATA, h2.HEADERS)
        assert (Decoder().decode(status), body) == ([(b":status", b"200")], b"body")
        assert flags & h2.END_STREAM
        assert Decoder().decode(end) == [(b"grpc-status", b"0")]

    def test_an_answer_keeps_to_the_windows_of_its_client(self) -> None:
        connection = open_connection(pack(">HI", 4, 10))
        list(connection.feed(head(flags=h2.END_HEADERS | h2.END_STREAM)))
        answered(connection, 1, bytes(range(25)))
        assert [payload for kind, _, _, payload in frames(connection) if kind == h2.DATA] == [
            bytes(range(10))
        ]
        list(connection.feed(frame(h2.WINDOW_UPDATE, 0, 1, pack(">I", 5))))
        assert frames(connection) == [(h2.DATA, 0, 1, bytes(range(10, 15)))]
        list(connection.feed(frame(h2.SETTINGS, 0, 0, pack(">HI", 4, 60))))
        assert kinds(connection) == [h2.DATA, h2.HEADERS, h2.SETTINGS]

    def test_all_answers_share_the_window_of_the_connection(self) -> None:
        connection = open_connection(pack(">HI", 4, 1 << 20))
        list(connection.feed(head(flags=h2.END_HEADERS | h2.END_STREAM)))
        answered(connection, 1, bytes(70_000))
        sent = [len(payload) for kind, _, _, payload in frames(connection) if kind == h2.DATA]
        assert sum(sent) == 65535
        list(connection.feed(frame(h2.WINDOW_UPDATE, 0, 0, pack(">I", 1 << 20))))
        assert kinds(connection) == [h2.DATA, h2.HEADERS]

    def test_what_came_is_acknowledged(self) -> None:
        connection = open_connection()
        list(connection.feed(head() + data(1, b"abc")))
        assert frames(connection) == [
            (h2.WINDOW_UPDATE, 0, 0, pack(">I", 3)),
            (h2.WINDOW_UPDATE, 0, 1, pack(">I", 3)),
        ]

    def test_trailers_end_a_request(self) -> None:
        connection = open_connection()
        ended = h2.END_HEADERS | h2.END_STREAM
        (request,) = connection.feed(head() + data(1, b"a") + head(1, ended, [(b"x", b"y")]))
        assert request.body == b"a"

    def test_a_ping_is_answered(self) -> None:
        connection = open_connection()
        list(connection.feed(frame(h2.PING, 0, 0, b"12345678") + frame(h2.PING, 1, 0, bytes(8))))
        assert frames(connection) == [(h2.PING, h2.ACK, 0, b"12345678")]

    def test_a_cancelled_request_is_not_answered(self) -> None:
        connection = open_connection()
        list(connection.feed(head(flags=h2.END_HEADERS | h2.END_STREAM)))
        list(connection.feed(frame(h2.RST_STREAM, 0, 1, pack(">I", 8))))
        answered(connection, 1, b"x")
        connection.refuse(1, [(b":status", b"415")])
        assert frames(connection) == []

    def test_what_arrives_for_a_cancelled_request_is_ignored(self) -> None:
        connection = open_connection()
        list(connection.feed(head() + frame(h2.RST_STREAM, 0, 1, pack(">I", 8))))
        assert list(connection.feed(data(1, b"x", h2.END_STREAM))) == []
        assert frames(connection) == [(h2.WINDOW_UPDATE, 0, 0, pack(">I", 1))]

    def test_a_body_that_is_too_large_is_reset(self) -> None:
        connection = open_connection()
        list(connection.feed(head() + data(1, bytes(16384)) * 4))
        frames(connection)
        list(connection.feed(data(1, b"x")))
        assert frames(connection)[-1] == (h2.RST_STREAM, 0, 1, pack(">I", h2.ENHANCE_YOUR_CALM))

    def test_more_requests_than_agreed_on_are_refused(self) -> None:
        connection = open_connection()
        for number in range(101):
            list(connection.feed(head(1 + 2 * number)))
        assert frames(connection) == [(h2.RST_STREAM, 0, 201, pack(">I", h2.REFUSED_STREAM))]

    @pytest.mark.parametrize(
        "fields",
        [
            REQUEST[:2],
            [*REQUEST, (b":path", b"/y")],
            [*REQUEST, (b"a", b"b"), (b":authority", b"c")],
            [*REQUEST, (b":status", b"200")],
            [*REQUEST, (b"Upper", b"x")],
            [*REQUEST, (b"connection", b"close")],
        ],
    )
    def test_a_malformed_head_is_reset(self, fields: Iterable[Any]) -> None:
        connection = open_connection()
        assert list(connection.feed(head(fields=fields))) == []
        assert frames(connection) == [(h2.RST_STREAM, 0, 1, pack(">I", h2.PROTOCOL_ERROR))]

    @pytest.mark.parametrize(
        ("raw", "code", "message"),
        [
            (b"GET / HTTP/1.1\r\n", 1, "this is not HTTP/2"),
            (PREFACE + frame(h2.PING, 0, 0, bytes(8)), 1, "the first frame is not SETTINGS"),
            (HELLO + frame(h2.PING, 0, 1, bytes(8)), 1, "a frame of kind 6 is for a stream"),
            (HELLO + frame(h2.PING, 0, 0, b"x"), 6, "1 bytes where 8 belong"),
            (HELLO + frame(h2.SETTINGS, 0, 0, b"x"), 6, "the settings are not of six bytes each"),
            (HELLO + frame(h2.SETTINGS, 1, 0, bytes(6)), 6, "6 bytes where 0 belong"),
            (
                HELLO + frame(h2.SETTINGS, 0, 0, pack(">HI", 4, 1 << 31)),
                3,
                "a window of 2147483648",
            ),
            (HELLO + frame(h2.SETTINGS, 0, 0, pack(">HI", 5, 9)), 1, "frames of 9 bytes"),
            (HELLO + frame(h2.DATA, 0, 0), 1, "a frame of kind 0 is for no stream"),
            (HELLO + data(1, b"x"), 1, "the stream 1 has not begun"),
            (HELLO + head(2), 1, "a client has opened the stream 2"),
            (HELLO + head() + frame(h2.DATA, h2.PADDED, 1, b"\5"), 1, "more padding than there is"),
            (HELLO + head(flags=0) + data(1, b""), 1, "a header block is interrupted"),
            (HELLO + frame(h2.CONTINUATION, 4, 1), 1, "a header block goes on that has not begun"),
            (HELLO + frame(h2.HEADERS, 4, 1, b"\x80"), 9, "the table has no entry 0"),
            (HELLO + head(flags=0) + frame(9, 0, 1, bytes(16384)), 11, "a head of more than 16384"),
            (HELLO + b"\1\0\0" + bytes(6), 6, "a frame of 65536 bytes"),
            (HELLO + frame(h2.PUSH_PROMISE, 0, 1, bytes(4)), 1, "a client cannot push"),
            (HELLO + frame(h2.RST_STREAM, 0, 1, bytes(4)), 1, "the stream 1 has not begun"),
            (HELLO + frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)), 3, "a window is widened by 0"),
            (HELLO + frame(h2.PRIORITY, 0, 1, bytes(4)), 6, "4 bytes where 5 belong"),
        ],
    )
    def test_what_breaks_the_protocol_is_told(self, raw: bytes, code: int, message: str) -> None:
        connection = Connection()
        with pytest.raises(Violation, match=message) as caught:
            list(connection.feed(raw))
        assert caught.value.code == code


def test_a_violation_is_said_before_hanging_up(daemon: Any) -> None:
    with daemon.connect("grpc.sock") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: sock.recv(65536), b""))
    assert received.endswith(b"\0\0\0\1this is not HTTP/2")


def test_what_is_not_grpc_is_told_so(daemon: Any, answer_of: Callable[[Any, bytes], Any]) -> None:
    fields = [*REQUEST, (b"content-type", b"application/json")]
    raw = HELLO + head(1, h2.END_HEADERS | h2.END_STREAM, fields)
    assert answer_of(daemon, raw) == [(b":status", b"415")]


@pytest.fixture
def answer_of() -> Callable[[Any, bytes], Any]:
    """The fields of the first head that comes back."""

    def ask(daemon: Any, raw: bytes) -> Any:
        with daemon.connect("grpc.sock") as sock:
            sock.sendall(raw)
            file = sock.makefile("rb")
            while True:
                prefix = file.read(9)
                payload = file.read(int.from_bytes(prefix[:3], "big"))
                if prefix[3] == h2.HEADERS:
                    return Decoder().decode(payload)

    return ask
