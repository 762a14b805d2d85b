"""What stands between a driver and its engine: it answers in its stead, passes on, or loses."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import SocketStream

_VERSION: Final = re.compile(r"^/v\d+\.\d+(?=/)")
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Exchange:
    """One request, and the connection that it came on."""

    def __init__(self, client: SocketStream, received: bytes, engine: str | None) -> None:
        self._client = client
        self._received = _once(received)
        self._engine = engine
        method, target, _ = received.split(b"\r\n", 1)[0].decode().split(" ")
        path, _, self.query = target.partition("?")
        self.request = f"{method} {_VERSION.sub('', path)}"
        """Such as `POST /containers/create`."""

    async def answer(self, body: object, status: int = 200) -> None:
        """Instead of the engine."""
        await self.begin(status)
        await self.go_on(body)

    async def begin(self, status: int = 200) -> None:
        """Of an answer that ends with the connection."""
        head = f"HTTP/1.1 {status} Said\r\nConnection: close\r\nApi-Version: 1.44\r\n"
        await self._client.send((head + "Content-Type: application/json\r\n\r\n").encode())

    async def go_on(self, *objects: object) -> None:
        for each in objects:
            await self._client.send(json.dumps(each).encode() + b"\n")

    async def cut_off(self) -> None:
        """Begin to answer, and end in the middle of it."""
        head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        await self._client.send(f"{head}40\r\nno more".encode())

    async def forward(self) -> None:
        """Have the engine answer."""
        assert self._engine is not None
        async with await anyio.connect_unix(self._engine) as engine:
            await engine.send(self._received)
            async for piece in engine:
                await self._client.send(piece)

    async def engines_answer(self) -> bytes:
        """Have the engine answer, and tell nobody yet."""
        assert self._engine is not None
        answer = bytearray()
        async with await anyio.connect_unix(self._engine) as engine:
            await engine.send(self._received)
            async for piece in engine:
                answer += piece
        return bytes(answer)

    async def send(self, answer: bytes) -> None:
        """Tell what the engine has answered."""
        await self._client.send(answer)

    async def lose_answer(self) -> None:
        """Have the engine do it, and tell nobody."""
        assert self._engine is not None
        async with await anyio.connect_unix(self._engine) as engine:
            await engine.send(self._received)
            # Its head is sent when it has been done.
            await engine.receive()


Behaviour = Callable[[Exchange], Awaitable[None]]


@asynccontextmanager
async def between(
    socket: Path, behaviour: Behaviour, engine: str | None = None
) -> AsyncGenerator[str]:
    """Stand there; the answer is the address. What `behaviour` does not answer ends unanswered.
    `engine` is the path of the socket of a real one."""

    async def serve(client: SocketStream) -> None:
        try:
            async with client:
                received = await _request(client)
                if received:
                    await behaviour(Exchange(client, received, engine))
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            pass  # the driver has left, or the engine is away

    async with await anyio.create_unix_listener(socket) as listener, anyio.create_task_group() as t:
        t.start_soon(listener.serve, serve)
        yield f"unix://{socket}"
        t.cancel_scope.cancel()


def _once(received: bytes) -> bytes:
    """The same request, on a connection that nobody keeps for the next one."""
    head, end, body = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if any(line.lower().startswith(b"connection: upgrade") for line in lines):
        return received
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close"]) + end + body


async def _request(client: SocketStream) -> bytes:
    """Head and body; nothing of one that only knocks."""
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            received += await client.receive()
        except anyio.EndOfStream:
            return b""
    head, _, _ = received.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    whole = len(head) + 4 + (int(found[1]) if found else 0)
    while len(received) < whole:
        received += await client.receive()
    return received
