from __future__ import annotations

import contextlib
import importlib.util
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from longshore_daemon.inside import channel
from longshore_daemon.inside.channel import Channel
from longshore_daemon.inside.stream import Disconnected, Stream
from longshore_daemon.inside.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frames,
    Violation,
    accept_key,
    encode,
    encode_close,
    read_close,
)


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


frame = _load("websocket_client").frame

PAYLOADS = st.binary(max_size=300) | st.integers(65530, 65540).map(bytes)
MESSAGES = st.lists(
    st.tuples(st.sampled_from([TEXT, BINARY]), st.lists(PAYLOADS, min_size=1, max_size=3)),
    max_size=4,
)


def read(frames: Frames, data: bytes) -> list[tuple[int, bytes]]:
    """Whole messages and control frames, in the order in which they ended."""
    found: list[tuple[int, bytes]] = []
    parts: list[bytes] = []
    for piece in frames.feed(data):
        if piece.opcode >= CLOSE:
            found.append((piece.opcode, piece.data))
        else:
            parts.append(piece.data)
            if piece.last:
                found.append((piece.opcode, b"".join(parts)))
                parts.clear()
    return found


@settings(deadline=None)
@given(MESSAGES, st.booleans(), st.data())
def test_messages_are_taken_apart_however_they_arrive(
    messages: list[tuple[int, list[bytes]]], pings: bool, data: st.DataObject
) -> None:
    encoded, expected = b"", list[tuple[int, bytes]]()
    for opcode, parts in messages:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            encoded += frame(opcode if number == 0 else 0, part, final=last)
            if pings:
                encoded += frame(PING, b"in between")
        expected.append((opcode, b"".join(parts)))
    cuts = data.draw(st.lists(st.integers(0, len(encoded)), max_size=8).map(sorted))
    frames, pieces, heard = Frames(), list[Any](), 0
    for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True):
        for piece in frames.feed(encoded[start:end]):
            if piece.opcode == PING:
                assert piece.data == b"in between"
                heard += 1
            else:
                pieces.append(piece)
    seen, parts = list[tuple[int, bytes]](), list[bytes]()
    for piece in pieces:
        parts.append(piece.data)
        if piece.last:
            seen.append((piece.opcode, b"".join(parts)))
            parts = []
    assert seen == expected
    assert heard == (sum(len(parts) for _, parts in messages) if pings else 0)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6))
@example([b"\x82\xfe\x00\x05"])
def test_any_bytes_are_frames_or_a_violation(pieces: list[bytes]) -> None:
    frames = Frames()
    with contextlib.suppress(Violation):
        for data in pieces:
            for piece in frames.feed(data):
                assert piece.opcode in (1, 2, 8, 9, 10)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (frame(BINARY, b"x", masked=False), "a frame is not masked"),
        (b"\xc2\x80", "a reserved bit is set"),
        (b"\x83\x80", "there is no opcode 3"),
        (b"\x8b\x80", "there is no opcode 11"),
        (b"\x09\x80", "a control frame is fragmented or too long"),
        (b"\x89\xfe", "a control frame is fragmented or too long"),
        (frame(0, b"x"), "a message begins in another, or goes on without having begun"),
        (
            frame(BINARY, b"x", final=False) + frame(BINARY, b"x"),
            "a message begins in another, or goes on without having begun",
        ),
        (b"\x82\xfe\x00\x7d", "the length of a frame is not in its shortest form"),
        (b"\x82\xff" + (65535).to_bytes(8, "big"), "the length of a frame is not in its shortest"),
        (b"\x82\xff" + b"\xff" * 8, "the length of a frame is not in its shortest form"),
    ],
    # By number: masks are random, and the processes that share out the tests must agree on names.
    ids=count(),
)
def test_what_the_standard_forbids_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(Violation, match=message):
        read(Frames(), raw)


def test_an_empty_message_is_a_message() -> None:
    assert read(Frames(), frame(BINARY)) == [(BINARY, b"")]
    assert read(Frames(), frame(TEXT, final=False) + frame(0)) == [(TEXT, b"")]


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
def test_frames_are_written_in_their_shortest_form(length: int) -> None:
    data = bytes(length)
    assert encode(BINARY, data[:1], data[1:]) == frame(BINARY, data, masked=False)


def test_a_reason_for_closing_is_cut_to_what_fits() -> None:
    assert len(encode_close(1008, "x" * 500)) == 2 + 125


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000)],
)
def test_the_code_of_a_close_is_read(payload: bytes, code: int) -> None:
    assert read_close(payload) == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (b"\x03\xed", 1002),
        (b"\x00\x00", 1002),
        (b"\xff\xff", 1002),
        (b"\x03\xe8\xff", 1007),
    ],
)
def test_a_close_that_may_not_be_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(Violation) as caught:
        read_close(payload)
    assert caught.value.code == code


def test_the_answer_to_a_handshake_is_that_of_the_standard() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("key", ["", "x", "dGhlIHNhbXBsZSBub25jZ===", "é" * 24, "A" * 24])
def test_a_key_that_is_no_key_is_refused(key: str) -> None:
    assert accept_key(key) is None


class TestChannel:
    """Whether a client is still there, on a clock that can be turned."""

    @pytest.fixture
    def ends(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[tuple[Channel, socket.socket, list[float]]]:
        now = [1000.0]
        monkeypatch.setattr(channel, "monotonic", lambda: now[0])
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield Channel(Stream(ours)), theirs, now

    def test_a_client_that_answers_pings_stays(self, ends: Any) -> None:
        served, client, now = ends
        for _ in range(5):
            now[0] = served.keep_alive(excused=False)
            served.keep_alive(excused=False)
            served.flush()
            assert client.recv(100) == b"\x89\x00"
            client.sendall(frame(PONG))
            assert served.receive() == []

    def test_a_client_that_is_silent_between_two_pings_is_cut_off(self, ends: Any) -> None:
        served, client, now = ends
        now[0] += 30
        served.keep_alive(excused=False)
        served.flush()
        assert client.recv(100) == b"\x89\x00"
        now[0] += 29
        served.keep_alive(excused=False)
        now[0] += 1
        with pytest.raises(Disconnected, match="the client does not answer"):
            served.keep_alive(excused=False)

    @pytest.mark.parametrize("size", [1, 1 << 20])
    def test_one_for_whom_bytes_are_waiting_is_not_dead(self, ends: Any, size: int) -> None:
        served, client, now = ends
        served.queue(bytes(size))
        for _ in range(5):
            served.flush()
            now[0] += 30
            served.keep_alive(excused=False)
        while served.backlog:
            client.recv(1 << 20)
            served.flush()
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while client.recv(1 << 20):
                continue
        now[0] += 30
        with pytest.raises(Disconnected, match="the client does not answer"):
            served.keep_alive(excused=False)

    def test_one_that_is_not_listened_to_is_not_blamed(self, ends: Any) -> None:
        served, _, now = ends
        for _ in range(5):
            now[0] += 30
            served.keep_alive(excused=True)

    def test_one_that_does_not_say_goodbye_is_cut_off(self, ends: Any) -> None:
        served, _, now = ends
        served.close(1000, "exit:0")
        served.flush()
        now[0] += 29
        assert served.keep_alive(excused=False) == now[0] + 1
        now[0] += 1
        with pytest.raises(Disconnected, match="the client does not take its leave"):
            served.keep_alive(excused=False)

    def test_nothing_follows_the_end(self, ends: Any) -> None:
        served, client, _ = ends
        served.close(1000, "exit:0")
        served.close(1001, "again")
        served.queue(b"more")
        client.sendall(frame(PING) + frame(CLOSE, b"\x03\xe8"))
        served.receive()
        served.flush()
        assert client.recv(100) == encode_close(1000, "exit:0")
        assert served.finished
