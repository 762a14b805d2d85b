"""A terminal in a sandbox, as a caller of the proxy has it."""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.harness import System, system

BINARY, CLOSE = 2, 8


@contextmanager
def attach(whole: System, sandbox: str, target: str) -> Iterator[socket.socket]:
    """Shake hands through the proxy."""
    with socket.create_connection(("127.0.0.1", whole.proxy_port), timeout=30) as sock:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {target} HTTP/1.1",
            "Host: localhost",
            f"Tensorlake-Sandbox-Id: {sandbox}",
            "Connection: keep-alive, Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        ]
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        yield sock


def exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        assert piece, "the connection has ended early"
        data += piece
    return data


def answer_of(sock: socket.socket) -> bytes:
    """The head; what follows is left where it is."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(sock, 1)
    return head


def send(sock: socket.socket, opcode: int, data: bytes) -> None:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    sock.sendall(bytes([0x80 | opcode, 0x80 | len(data)]) + mask + masked)


def receive(sock: socket.socket) -> tuple[int, bytes]:
    first, length = exactly(sock, 2)
    if length == 126:
        (length,) = struct.unpack("!H", exactly(sock, 2))
    return first & 0x0F, exactly(sock, length)


def test_a_terminal_is_used_through_the_proxy(tmp_path: Path) -> None:
    with system(tmp_path) as whole:
        whole.start_all()
        sandbox = whole.create()
        script = "stty -echo; echo up; read x; stty size; echo got $x; exit 5"
        body = {"command": "sh", "args": ["-c", script]}
        made = whole.daemon(sandbox, "POST", "/api/v1/pty", json=body)
        assert made.status_code == 201, made.text
        session = made.json()
        path = f"/api/v1/pty/{session['session_id']}"
        with attach(whole, sandbox, f"{path}/ws?token=wrong") as sock:
            assert answer_of(sock).startswith(b"HTTP/1.1 403 ")
        with attach(whole, sandbox, f"{path}/ws?token={session['token']}") as sock:
            head = answer_of(sock).lower()
            assert head.startswith(b"http/1.1 101 ")
            assert b"\r\nupgrade: websocket\r\n" in head
            send(sock, BINARY, b"\x02")
            shown = b""
            while b"up\r\n" not in shown:
                shown += receive(sock)[1][1:]
            send(sock, BINARY, b"\x01" + struct.pack("!HH", 99, 33))
            send(sock, BINARY, b"\x00word\n")
            shown, ended = b"", b""
            while (message := receive(sock))[0] == BINARY:
                if message[1][:1] == b"\x00":
                    shown += message[1][1:]
                else:
                    ended += message[1]
            assert shown == b"33 99\r\ngot word\r\n"
            assert ended == b"\x03" + struct.pack("!i", 5)
            assert message == (CLOSE, struct.pack("!H", 1000) + b"exit:5")
        assert whole.daemon(sandbox, "GET", path).json()["exit_code"] == 5
        assert whole.daemon(sandbox, "DELETE", path).status_code == 204
        whole.delete(sandbox)
