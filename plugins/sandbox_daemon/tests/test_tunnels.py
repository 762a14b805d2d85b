"""Ports in a sandbox, over a WebSocket."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Daemon = Any
TEXT, BINARY, CLOSE = 1, 2, 8
LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
TOKEN = b"Longshore-Sandbox-Token: the-token\r\n"


@contextmanager
def listening(
    serve: Callable[[socket.socket], None], family: int = socket.AF_INET
) -> Iterator[int]:
    """A server for one connection; its port."""
    with bound(family) as listener:
        listener.listen()
        listener.settimeout(20)

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(20)
                serve(sock)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            thread.join(20)
            assert not thread.is_alive()


@contextmanager
def bound(family: int) -> Iterator[socket.socket]:
    """To a port of the loopback that nobody else has, by the other family of addresses either."""
    (address,) = (one for one in LOOPBACKS if one[0] == family)
    (other,) = (one for one in LOOPBACKS if one[0] != family)
    while True:
        with socket.socket(family) as sock, socket.socket(other[0]) as held:
            sock.bind((address[1], 0))
            try:
                held.bind((other[1], sock.getsockname()[1]))
            except OSError:
                continue
            yield sock
            return


def receive_all(tunnel: Any) -> tuple[bytes, int, str]:
    data = b""
    while True:
        opcode, piece = tunnel.receive()
        if opcode == CLOSE:
            (code,) = struct.unpack("!H", piece[:2])
            return data, code, piece[2:].decode()
        assert opcode == BINARY
        data += piece


def drain(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def swallow(sock: socket.socket) -> None:
    drain(sock)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_bytes_go_both_ways(daemon: Daemon, family: int) -> None:
    def serve(sock: socket.socket) -> None:
        assert sock.recv(100) == b"ping\0\xff"
        sock.sendall(b"pong\0\xff")

    with listening(serve, family) as port, daemon.websocket(f"tunnels/tcp?port={port}") as tunnel:
        assert tunnel.status == 101
        tunnel.send(BINARY, b"ping\0\xff")
        assert receive_all(tunnel) == (b"pong\0\xff", 1000, "")


def test_much_passes_whole_at_the_pace_of_the_slower(daemon: Daemon) -> None:
    data = os.urandom(20_000_000)

    def serve(sock: socket.socket) -> None:
        sock.sendall(data)

    with listening(serve) as port, daemon.websocket(f"tunnels/tcp?port={port}") as tunnel:
        threading.Event().wait(0.3)
        status = open_status(daemon)
        received, code, _ = receive_all(tunnel)
    assert code == 1000
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    assert status < 20_000


def open_status(daemon: Daemon) -> int:
    with open(f"/proc/{daemon.process.pid}/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1])


def test_what_was_sent_before_the_goodbye_arrives(daemon: Daemon) -> None:
    data, seen = os.urandom(3_000_000), list[bytes]()

    def serve(sock: socket.socket) -> None:
        threading.Event().wait(0.2)
        seen.append(drain(sock))

    with listening(serve) as port, daemon.websocket(f"tunnels/tcp?port={port}") as tunnel:
        for start in range(0, len(data), 1_000_000):
            # One frame may be larger than anything that is held.
            mask_free = data[start : start + 1_000_000]
            head = b"\x82\xff" + struct.pack("!Q", len(mask_free)) + bytes(4)
            tunnel.sock.sendall(head + mask_free)
        tunnel.send(CLOSE, struct.pack("!H", 1000))
        assert receive_all(tunnel) == (b"", 1000, "")
    assert seen == [data]


def test_a_client_that_vanishes_ends_the_connection(daemon: Daemon) -> None:
    seen = list[bytes]()

    def serve(sock: socket.socket) -> None:
        seen.append(drain(sock))

    with listening(serve) as port, daemon.websocket(f"tunnels/tcp?port={port}") as tunnel:
        tunnel.send(BINARY, b"x")
    assert seen == [b"x"]


def test_a_broken_connection_is_told(daemon: Daemon) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with listening(serve) as port, daemon.websocket(f"tunnels/tcp?port={port}") as tunnel:
        tunnel.send(BINARY, b"x")
        _, code, reason = receive_all(tunnel)
    assert code == 1011
    assert "reset" in reason


def test_text_is_refused(daemon: Daemon) -> None:
    with listening(swallow) as port, daemon.websocket(f"tunnels/tcp?port={port}") as tunnel:
        tunnel.send(TEXT, b"x")
        assert receive_all(tunnel) == (b"", 1003, "binary messages are wanted")
        tunnel.send(CLOSE)


def test_a_port_where_nobody_listens_is_an_answer(daemon: Daemon) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = daemon.http.get(f"tunnels/tcp?port={unused.getsockname()[1]}")
    assert (answer.status_code, answer.json()["code"]) == (502, "CONNECTION_REFUSED")


@pytest.mark.parametrize("port", ["", "0", "65536", "x", "-1", "999999999"])
def test_what_is_no_port_is_refused(daemon: Daemon, port: str) -> None:
    answer = daemon.http.get(f"tunnels/tcp?port={port}")
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_SANDBOX_PORT")


def test_pages_of_other_sites_may_not_open_any(daemon: Daemon) -> None:
    with listening(swallow) as port:
        target = f"tunnels/tcp?port={port}"
        for origin in (b"http://evil.example", b"null", b"http://sandbox.evil"):
            with daemon.websocket(target, headers=TOKEN + b"Origin: %b\r\n" % origin) as tunnel:
                assert tunnel.status == 403
        with daemon.websocket(target, headers=TOKEN + b"Origin: http://sandbox\r\n") as tunnel:
            assert tunnel.status == 101


def test_the_token_is_wanted(daemon: Daemon) -> None:
    with daemon.websocket("tunnels/tcp?port=1", headers=b"") as tunnel:
        assert tunnel.status == 401
