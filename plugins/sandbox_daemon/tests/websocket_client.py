"""A WebSocket client of its own, to say also what no library would."""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TOKEN = b"Longshore-Sandbox-Token: the-token\r\n"


def frame(opcode: int, data: bytes = b"", *, final: bool = True, masked: bool = True) -> bytes:
    length = len(data)
    sign = 0x80 if masked else 0
    head = bytes([(0x80 if final else 0) | opcode])
    if length < 126:
        head += bytes([sign | length])
    elif length < 65536:
        head += bytes([sign | 126]) + struct.pack("!H", length)
    else:
        head += bytes([sign | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + data
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


class WebSocket:
    """Connected by `connect`; `headers` go with the handshake."""

    def __init__(
        self, connect: Callable[[], socket.socket], target: str, headers: bytes = TOKEN
    ) -> None:
        self.sock = connect()
        key = base64.b64encode(os.urandom(16))
        self.sock.sendall(
            b"GET %b HTTP/1.1\r\nHost: sandbox\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n%b\r\n"
            % (target.encode(), key, headers)
        )
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def send(self, opcode: int, data: bytes = b"", **options: Any) -> None:
        self.sock.sendall(frame(opcode, data, **options))

    def ready(self) -> None:
        self.send(BINARY, b"\x02")

    def type(self, data: bytes) -> None:
        self.send(BINARY, b"\x00" + data)

    def receive(self) -> tuple[int, bytes]:
        """The next frame."""
        first, second = self.file.read(2)
        assert first & 0x80, "frames of the daemon are whole"
        assert not second & 0x80, "frames of the daemon are not masked"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.file.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.file.read(8))
        return first & 0x0F, self.file.read(length)

    def receive_until(self, wanted: bytes) -> bytes:
        """What the terminal shows, until it has shown that."""
        shown = b""
        while wanted not in shown:
            opcode, data = self.receive()
            assert opcode == BINARY, (opcode, data, shown[-200:])
            assert data[:1] == b"\0"
            shown += data[1:]
        return shown

    def receive_rest(self) -> tuple[bytes, int, str]:
        """What is still shown, and the code and the reason of the end.

        An exit code comes as the last message, too, and is the same there.
        """
        shown, told = b"", None
        while True:
            opcode, data = self.receive()
            if opcode == CLOSE:
                code, reason = read_close(data)
                assert told == (reason if reason.startswith("exit:") else None)
                return shown, code, reason
            if opcode != BINARY:
                continue
            assert told is None
            if data[:1] == b"\3":
                told = f"exit:{struct.unpack('!i', data[1:])[0]}"
            else:
                shown += data[1:]


def read_close(data: bytes) -> tuple[int, str]:
    (code,) = struct.unpack("!H", data[:2])
    return code, data[2:].decode()
