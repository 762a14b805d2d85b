from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote_from_bytes, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from longshore_daemon.inside.http import (
    BadRequest,
    Chunked,
    parse_head,
    parse_query,
    parse_range,
    unquote,
)

TOKEN = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
PATH = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?"))


def attempt(parse: Callable[..., Any], *args: Any) -> Any:
    try:
        return parse(*args)
    except BadRequest as exc:
        return exc


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(b"GET / HTTP/1.1\r\nContent-Length: \xb2")
@example(b"GET http://x HTTP/1.1")
def test_any_bytes_are_a_head_or_a_bad_request(raw: bytes) -> None:
    head = attempt(parse_head, raw)
    if isinstance(head, BadRequest):
        assert 400 <= head.status < 600
    else:
        assert head.path.startswith("/")


@settings(deadline=None)
@given(
    method=TOKEN,
    path=PATH,
    fields=st.dictionaries(TOKEN.map(str.lower), VALUE, max_size=8),
    space=st.sampled_from(["", " ", "\t ", "  "]),
)
def test_a_head_is_read_as_it_was_written(
    method: str, path: str, fields: dict[str, str], space: str
) -> None:
    lines = [f"{method} /{path} HTTP/1.1"]
    lines += [f"{name.upper()}:{space}{value}{space}" for name, value in fields.items()]
    head = parse_head("\r\n".join(lines).encode())
    assert (head.method, head.path, head.query) == (method, f"/{path}", {})
    assert head.headers == fields
    assert (head.keep_alive, head.length) == (True, 0)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.binary(max_size=20), st.data())
def test_chunks_are_taken_apart_however_they_arrive(
    pieces: list[bytes], after: bytes, data: st.DataObject
) -> None:
    encoded = b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    encoded += b"0\r\nTrailer: x\r\n\r\n" + after
    cuts = data.draw(st.lists(st.integers(0, len(encoded)), max_size=10).map(sorted))
    chunked, body, rest = Chunked(), b"", b""
    for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True):
        if chunked.done:
            rest += encoded[start:end]
        else:
            body += chunked.feed(encoded[start:end])
            rest += chunked.rest
    assert chunked.done
    assert body == b"".join(pieces)
    assert rest == after


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_chunks_or_a_bad_request(raw: bytes) -> None:
    body = attempt(Chunked().feed, raw)
    assert body.status == 400 if isinstance(body, BadRequest) else len(body) <= len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"1 1\r\n",
        b"1\nab",
        b"1\r\nab\r\n",
        b"f" * 16 + b"\r\n",
        b"1;" + b"x" * 5000,
        b"0\r\n" + b"t: x\r\n" * 5000,
    ],
)
def test_malformed_chunks_are_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        Chunked().feed(raw)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_percent_encoding_is_undone_for_any_bytes(raw: bytes) -> None:
    assert unquote(quote_from_bytes(raw)).encode("utf-8", "surrogateescape") == raw


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=5))
def test_a_query_is_read_as_it_was_written(parameters: dict[str, str]) -> None:
    query = "&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in parameters.items())
    assert parse_query(query) == parameters


@settings(deadline=None)
@given(st.text("ab%20+&=", max_size=30))
def test_queries_are_read_as_everybody_reads_them(query: str) -> None:
    expected: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        expected.setdefault(name, value)
    expected.pop("", None)
    assert parse_query(query) == expected


@settings(deadline=None)
@given(st.text("bytes=-,0123456789 x²", max_size=20), st.integers(0, 50))
@example("bytes=-5", 0)
@example(f"bytes={'9' * 5000}-", 5)
def test_a_range_lies_within_the_file(header: str, size: int) -> None:
    span = attempt(parse_range, header, size)
    if isinstance(span, BadRequest):
        assert span.status == 416
    else:
        assert span is None or 0 <= span[0] < span[1] <= size


@pytest.mark.parametrize(
    ("fields", "keep_alive"),
    [
        (b"HTTP/1.1", True),
        (b"HTTP/1.1\r\nConnection: Close", False),
        (b"HTTP/1.1\r\nConnection: x, close", False),
        (b"HTTP/1.0", False),
        (b"HTTP/1.0\r\nConnection: keep-alive", False),
    ],
)
def test_connections_are_kept_when_both_sides_want_to(fields: bytes, keep_alive: bool) -> None:
    assert parse_head(b"GET / " + fields).keep_alive is keep_alive
