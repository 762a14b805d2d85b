"""WebSockets and events from pieces of any size, and what hostile ones are taken for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore._carrier import CarryError, finish
from longshore._events import Event, EventReader, MalformedEvent
from longshore._websocket import WebSocket
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

URL = "http://proxy.test:8095/api/v1/tunnels/tcp?port=1"


class Peer:
    """A wire whose other end is the server of websockets' own core."""

    def __init__(self, sizes: Iterator[int], *, status: int = 101) -> None:
        self.core = ServerProtocol()
        self.sizes = sizes
        self.status = status
        self.outgoing = bytearray()
        self.received: list[Frame] = []
        self.is_busy = False
        self.is_closed = False

    async def receive(self) -> bytes:
        size = max(1, next(self.sizes, 1 << 20))
        piece, self.outgoing = bytes(self.outgoing[:size]), self.outgoing[size:]
        return piece

    async def send(self, take: Callable[[], bytes]) -> None:
        self.core.receive_data(take())
        for event in self.core.events_received():
            if isinstance(event, Frame):
                self.received.append(event)
            else:
                answer = self.core.accept(event)
                if self.status != 101:
                    answer = self.core.reject(self.status, "refused")  # type: ignore[arg-type]  # an http.HTTPStatus
                self.core.send_response(answer)
        self.flush()

    async def send_at_once(self, take: Callable[[], bytes]) -> None:
        if not self.is_busy:
            await Peer.send(self, take)

    async def close(self) -> None:
        self.is_closed = True

    def flush(self) -> None:
        self.outgoing += b"".join(self.core.data_to_send())


def opened(*sizes: int, **options: Any) -> tuple[WebSocket, Peer]:
    peer = Peer(iter(sizes), **options)
    socket = WebSocket(peer, URL)
    assert finish(socket.shake_hands({"X-Mine": "1"})).status == options.get("status", 101)
    return socket, peer


@given(
    messages=st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 100)), max_size=8),
    sizes=st.lists(st.integers(1, 200), max_size=40),
)
def test_messages_come_whole_in_whatever_pieces_and_fragments(
    messages: list[tuple[bytes, int]], sizes: list[int]
) -> None:
    socket, peer = opened(*sizes)
    for data, step in messages:
        pieces = [data[start : start + step] for start in range(0, len(data), step)] or [b""]
        for number, piece in enumerate(pieces):
            send = peer.core.send_continuation if number else peer.core.send_binary
            send(piece, fin=number == len(pieces) - 1)
        peer.core.send_ping(b"between")
    peer.core.send_close(1000, "exit:7")
    peer.flush()
    got = []
    while (message := finish(socket.receive())) is not None:
        got.append(message)
    assert got == [data for data, _ in messages]
    assert socket.closed is not None
    assert (socket.closed.code, socket.closed.reason) == (1000, "exit:7")


def test_a_ping_is_answered_unless_somebody_is_sending() -> None:
    socket, peer = opened()
    for is_busy in (True, False):
        peer.is_busy = is_busy
        peer.core.send_ping(b"?")
        peer.core.send_binary(b"x")
        peer.flush()
        assert finish(socket.receive()) == b"x"
        assert bool(peer.received) is not is_busy
    # The answer that had no room went out together with the other.
    assert [frame.opcode for frame in peer.received] == [Opcode.PONG, Opcode.PONG]


def test_a_ping_is_answered_without_what_another_is_about_to_send() -> None:
    socket, peer = opened()
    turn = peer.send

    async def late(take: Callable[[], bytes]) -> None:
        # Before it is the sender's turn, a ping comes.
        peer.core.send_ping(b"?")
        peer.core.send_binary(b"x")
        peer.flush()
        assert await socket.receive() == b"x"
        assert [frame.opcode for frame in peer.received] == [Opcode.PONG]
        await turn(take)

    peer.send = late  # type: ignore[method-assign]
    finish(socket.send(b"large"))
    assert [frame.opcode for frame in peer.received] == [Opcode.PONG, Opcode.BINARY]


def test_a_refused_handshake_is_an_answer_with_a_body() -> None:
    peer = Peer(iter([]), status=403)
    shaken = finish(WebSocket(peer, URL).shake_hands({}))
    assert (shaken.status, shaken.body) == (403, b"refused")


def test_what_is_no_websocket_is_a_broken_connection() -> None:
    peer = Peer(iter([]))
    peer.outgoing += b"SSH-2.0-OpenSSH_10.0\r\n\r\n"
    with pytest.raises(CarryError, match="no answer that could be read"):
        finish(WebSocket(peer, URL).shake_hands({}))


def test_a_message_without_end_is_refused_before_it_fills_the_memory() -> None:
    socket, peer = opened()
    peer.outgoing += bytes([0x82, 127]) + (1 << 40).to_bytes(8)
    with pytest.raises(CarryError, match="the connection was cut"):
        finish(socket.receive())


def test_a_connection_that_ends_without_a_goodbye_is_cut() -> None:
    socket, _ = opened()
    with pytest.raises(CarryError, match="the connection was cut"):
        finish(socket.receive())
    with pytest.raises(CarryError, match="it has been closed"):
        finish(socket.send(b"x"))


@given(data=st.binary(max_size=200), sizes=st.lists(st.integers(1, 50), max_size=10))
def test_any_bytes_after_the_handshake_are_messages_an_end_or_a_cut(
    data: bytes, sizes: list[int]
) -> None:
    socket, peer = opened()
    peer.sizes = iter(sizes)
    peer.outgoing += data
    try:
        while finish(socket.receive()) is not None:
            continue
    except CarryError:
        return
    assert socket.closed is not None


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n:"), max_size=9)
DATA = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30)


@given(
    events=st.lists(st.tuples(NAMES.map(str.strip), DATA), max_size=6),
    cuts=st.lists(st.integers(1, 40), max_size=20),
)
def test_events_come_whole_in_whatever_pieces(
    events: list[tuple[str, str]], cuts: list[int]
) -> None:
    text = "".join(f"event: {name}\ndata: {data}\n\n: still here\n\n" for name, data in events)
    rest, reader, got = text.encode(), EventReader(), list[Event]()
    for cut in [*cuts, len(rest) or 1]:
        got += reader.feed(rest[:cut])
        rest = rest[cut:]
    assert got == [Event(name=name, data=data) for name, data in events]


def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(MalformedEvent):
        list(EventReader().feed(b"x" * 3_000_000))
