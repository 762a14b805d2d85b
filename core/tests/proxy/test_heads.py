"""Heads as views: what they say, what an edit makes of them, and which bytes are heads at all."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from longshore_core._errors import GuestError, RequestError
from longshore_core._heads import RequestHead, ResponseHead
from longshore_core._proxy.framing import request_scanner
from longshore_core._proxy.heads import hopeless, parse_request, parse_response

NAMES = st.sampled_from([b"A", b"a", b"Host", b"X-Token", b"x-token", b"Content-Type", b"B-b"])
VALUES = st.from_regex(rb"\A[!-~\x80-\xff]?(?:[ \t]?[!-~\x80-\xff]){0,8}\Z").map(
    lambda value: value.strip(b" \t")
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
SPACE = st.sampled_from([b"", b" ", b"\t", b"  "])
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("with"), st.lists(st.tuples(NAMES, VALUES), max_size=3)),
        st.tuples(st.just("without"), st.lists(NAMES, max_size=3)),
        st.tuples(st.just("target"), st.sampled_from([b"/", b"/longer/path?q=1"])),
    ),
    max_size=6,
)


def edited(fields: list[tuple[bytes, bytes]], edit: str, what: list) -> list[tuple[bytes, bytes]]:
    """The naive model of one edit: a list of fields."""
    if edit == "target":
        return fields
    names = {(item if edit == "without" else item[0]).lower() for item in what}
    kept = [field for field in fields if field[0].lower() not in names]
    return kept + (what if edit == "with" else [])


def parsed(raw: bytes) -> list[tuple[bytes, bytes]]:
    """The naive reading of a head."""
    lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
    return [(line.split(b":", 1)[0], line.split(b":", 1)[1].strip(b" \t")) for line in lines]


@given(FIELDS, SPACE, SPACE, EDITS)
def test_a_head_equals_the_model_that_parses_edits_and_writes(
    fields: list[tuple[bytes, bytes]], before: bytes, after: bytes, edits: list
) -> None:
    lines = [name + b":" + before + value + after for name, value in fields]
    head = RequestHead(b"\r\n".join([b"GET /old?x HTTP/1.1", *lines, b"", b""]))
    model, target = fields, b"/old?x"
    for edit, what in edits:
        model = edited(model, edit, what)
        if edit == "with":
            head = head.with_(*what)
        elif edit == "without":
            head = head.without(*what)
        else:
            head, target = head.with_target(what), what
    assert list(head.items()) == model
    assert head.target == target
    assert head.serialise().startswith(b"GET %b HTTP/1.1\r\n" % target)
    assert parsed(head.serialise()) == model
    assert list(RequestHead(head.serialise()).items()) == model
    for name in (b"a", b"HOST", b"x-Token", b"missing"):
        values = tuple(value for key, value in model if key.lower() == name.lower())
        assert head.get_all(name) == values
        assert head.get(name) == (values[0] if values else None)


@given(FIELDS)
def test_what_nobody_edits_leaves_byte_for_byte(fields: list[tuple[bytes, bytes]]) -> None:
    lines = b"".join(b"%b:\t%b \r\n" % field for field in fields)
    raw = b"GET / HTTP/1.1\r\n" + lines + b"\r\n"
    assert RequestHead(raw).serialise() is raw
    assert RequestHead(raw).without(b"missing").serialise() is raw


def test_an_edit_leaves_the_head_that_was_edited_alone() -> None:
    head = RequestHead.of(b"GET", b"/", (b"A", b"1"))
    head.with_((b"A", b"2")).without(b"A").with_target(b"/x")
    assert head.serialise() == b"GET / HTTP/1.1\r\nA: 1\r\n\r\n"


def test_a_request_head_tells_its_parts() -> None:
    head = RequestHead(b"POST /a/b?c=d?e HTTP/1.0\r\n\r\n")
    parts = (head.method, head.target, head.path, head.query, head.version)
    assert parts == (b"POST", b"/a/b?c=d?e", b"/a/b", b"c=d?e", b"1.0")


@pytest.mark.parametrize("value", [b"a\r\nB: c", b"a\nb", b"\x00", b"\x7f"])
def test_a_value_that_would_begin_another_line_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="the value for header b'A' has a character that cannot"):
        RequestHead.of(b"GET", b"/").with_((b"A", value))


def test_a_value_that_is_refused_is_not_told() -> None:
    with pytest.raises(ValueError, match="X-Token") as caught:
        ResponseHead.of(200).with_((b"X-Token", b"secret\n"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", [b"", b"A B", b"A:", b"\xe4", b"A\r\n"])
def test_a_name_that_is_not_a_token_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="is not the name of a header"):
        ResponseHead.of(200, (name, b""))


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nX: y", b"/\xc3\xbc"])
def test_a_target_that_cannot_be_sent_is_refused(target: bytes) -> None:
    with pytest.raises(ValueError, match="a target has a character that cannot be sent"):
        RequestHead.of(b"GET", b"/").with_target(target)


def test_an_answer_says_its_own_length() -> None:
    head = ResponseHead.of(404, (b"content-length", b"9"), (b"A", b"b"), body=b"gone")
    assert head.serialise() == b"HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 4\r\n\r\n"
    assert (head.status, head.body) == (404, b"gone")
    assert head.with_((b"B", b"c")).body == b"gone"


def test_an_answer_without_content_has_no_length() -> None:
    assert ResponseHead.of(204).serialise() == b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(("status", "body"), [(101, b""), (600, b""), (204, b"x"), (304, b"x")])
def test_an_answer_that_cannot_be_is_refused(status: int, body: bytes) -> None:
    with pytest.raises(ValueError, match="an answer cannot have status"):
        ResponseHead.of(status, body=body)


def test_a_head_in_a_log_shows_neither_query_nor_fields() -> None:
    head = RequestHead.of(b"GET", b"/a?key=secret", (b"Authorization", b"secret"))
    assert repr(head) == "<RequestHead GET /a>"


# What a valid head is. h11 is the oracle: what passes here, it reads the same way.

LINES = st.one_of(
    st.sampled_from([
        b"Host: x", b"host:y", b"Host : x", b" folded", b"\tfolded", b"NoColon", b": empty",
        b"A:", b"A: \x00", b"A: \x7f", b"A: b\rc", b"A: b\x0b", b"A: \xff", b"A:  b c\t ",
        b"A\x80: b", b"Content-Length: 3", b"X: " + b"y" * 300,
    ]),
    st.binary(max_size=12),
)  # fmt: skip
STARTS = st.one_of(
    st.sampled_from([
        b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"GET  / HTTP/1.1", b"GET /\xff HTTP/1.1",
        b"GET / HTTP/1.2", b"GET /", b"G{T / HTTP/1.1", b"POST /a?b#c HTTP/1.1", b"get * HTTP/1.1",
        b"GET\t/ HTTP/1.1", b" GET / HTTP/1.1", b"GET / HTTP/1.1 ", b"GET / HTTP/11.1",
    ]),
    st.binary(max_size=20),
)  # fmt: skip


def h11_reads(raw: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


@given(STARTS, st.lists(LINES, max_size=4), st.sampled_from([b"\r\n", b"\n"]))
@example(b"GET / HTTP/1.1", [b"Host: x", b"A: b"], b"\r\n")
def test_what_passes_h11_reads_the_same_way(start: bytes, lines: list[bytes], end: bytes) -> None:
    raw = end.join([start, *lines, b"", b""])
    try:
        head = parse_request(raw)
        # h11 repairs a length that is said twice; we refuse it.
        request_scanner(head)
    except RequestError:
        return
    oracle = h11_reads(raw)
    assert oracle is not None
    assert (head.method, head.target) == (oracle.method, oracle.target)
    assert [(name.lower(), value) for name, value in head.items()] == list(oracle.headers)


@given(st.lists(st.tuples(NAMES.filter(lambda name: name != b"Host"), VALUES), max_size=5))
def test_what_h11_writes_passes(fields: list[tuple[bytes, bytes]]) -> None:
    fields = [(b"Host", b"x"), *((name, value.strip()) for name, value in fields)]
    written = h11.Connection(h11.CLIENT).send(
        h11.Request(method=b"GET", target=b"/x?y", headers=fields)
    )
    assert written is not None
    assert list(parse_request(written).items()) == fields


REFUSED = [
    (b"GET / HTTP/1.1\nHost: x\n\n", 400, "Lines must end with CR LF"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nB: c\r\n\r\n", 400, "Lines must end with CR LF"),
    (b"GET /\r\n\r\n", 400, "Malformed request line"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n b\r\n\r\n", 400, "Folded header lines are not accepted"),
    (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, "Folded header lines are not accepted"),
    (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "Malformed header"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400, "Malformed header"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "A request needs exactly one Host header"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", 400,
     "A request needs exactly one Host header"),
    (b"PRI * HTTP/2.0\r\n\r\n", 505, "Only HTTP/1.1 is served here"),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "CONNECT is not served here"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status", "message"), REFUSED)
def test_a_request_that_is_refused_says_why(raw: bytes, status: int, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(raw)
    assert (caught.value.status, str(caught.value)) == (status, message)


def test_http_1_0_needs_no_host() -> None:
    assert parse_request(b"GET / HTTP/1.0\r\n\r\n").version == b"1.0"


@pytest.mark.parametrize("part", [b"\x16\x03\x01", b"\r\n", b"GET / HTTP/1.1\nHost: x\n\n"])
def test_what_can_never_be_a_request_is_known_early(part: bytes) -> None:
    assert hopeless(part)


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r"])
def test_the_beginning_of_a_request_is_not_hopeless(part: bytes) -> None:
    assert not hopeless(part)


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 404\r\nA: b\r\n\r\n", b"HTTP/1.1 100 \r\n\r\n"],
)
def test_a_response_head_tells_its_status(raw: bytes) -> None:
    assert parse_response(raw).status == int(raw[9:12])


@pytest.mark.parametrize(
    "raw",
    [b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
     b"HTTP/1.1 099 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", b"hello\r\n\r\n"],
)  # fmt: skip
def test_a_malformed_response_is_the_sandboxs_fault(raw: bytes) -> None:
    with pytest.raises(GuestError, match="the head of the sandbox's response is malformed"):
        parse_response(raw)
