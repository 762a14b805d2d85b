"""Connections for bytes both ways at once: one that blocks, and one for an event loop.

Both keep the deadline of whoever waits. One that says nothing for longer than its peer's pings are
apart is taken for dead.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from longshore._carrier import CarryError
from longshore._deadline import remaining

CONNECT_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 65.0
"""The daemon says something every thirty."""
_CLOSE_SECONDS: Final = 1.0
_PIECE: Final = 64 << 10
_WANTS_TO_READ: Final = (BlockingIOError, ssl.SSLWantReadError)
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to connect to; a context if by TLS."""

    host: str
    port: int
    context: ssl.SSLContext | None


@contextmanager
def _mapped(*, sent: bool = True) -> Generator[None]:
    try:
        yield
    except TimeoutError as exc:
        if sent:
            raise CarryError("nothing came for too long", silent=True) from exc
        raise CarryError("cannot connect: no answer", sent=False) from exc
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, ValueError) as exc:
        # ValueError: a descriptor that was closed meanwhile is no descriptor.
        what = "the connection was cut" if sent else "cannot connect"
        raise CarryError(f"{what}: {str(exc) or type(exc).__name__}", sent=sent) from exc


def dial_blocking(target: Target) -> BlockingWire:
    """Raises CarryError."""
    seconds = min(CONNECT_SECONDS, max(0.001, remaining()))
    with _mapped(sent=False):
        sock = socket.create_connection((target.host, target.port), seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.context is not None:
                sock = target.context.wrap_socket(sock, server_hostname=target.host)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    return BlockingWire(sock)


class BlockingWire:
    """Threads may share it. The socket does not block, so that every wait has its own end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = Lock()
        # A kernel's socket takes two threads at once; OpenSSL's half of one must not. None waits
        # while it is held.
        is_tls = isinstance(sock, ssl.SSLSocket)
        self._using: AbstractContextManager[object] = Lock() if is_tls else nullcontext()

    async def receive(self) -> bytes:
        with _mapped():
            while True:
                try:
                    with self._using:
                        return self._sock.recv(_PIECE)
                except _WANTS_TO_READ:
                    self._wait(selectors.EVENT_READ, _SILENCE_SECONDS)
                except ssl.SSLWantWriteError:
                    self._wait(selectors.EVENT_WRITE, _SILENCE_SECONDS)

    async def send(self, take: Callable[[], bytes]) -> None:
        with self._sending:
            self._send(take())

    async def send_at_once(self, take: Callable[[], bytes]) -> None:
        if self._sending.acquire(blocking=False):
            try:
                if _has_room(self._sock):
                    self._send(take())
            finally:
                self._sending.release()

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        with _mapped():
            while rest:
                try:
                    with self._using:
                        rest = rest[self._sock.send(rest) :]
                except ssl.SSLWantReadError:
                    self._wait(selectors.EVENT_READ, None)
                except (BlockingIOError, ssl.SSLWantWriteError):
                    # Without an end of its own: who does not read is not dead, and a pipe waits.
                    self._wait(selectors.EVENT_WRITE, None)

    def _wait(self, event: int, seconds: float | None) -> None:
        """Raises TimeoutError."""
        left = remaining()
        timeout = left if seconds is None else min(seconds, left)
        with _Selector() as selector:
            selector.register(self._sock, event)
            if not selector.select(None if timeout == float("inf") else timeout):
                raise TimeoutError

    async def close(self) -> None:
        with self._using:
            with suppress(OSError):
                # Whoever waits for it wakes up.
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()


def _has_room(sock: socket.socket) -> bool:
    """Whether a few bytes can go at once."""
    with _mapped(), _Selector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        return bool(selector.select(0))


async def dial_async(target: Target) -> AsyncWire:
    """Raises CarryError."""
    with _mapped(sent=False):
        with anyio.fail_after(min(CONNECT_SECONDS, remaining())):
            stream: ByteStream = await anyio.connect_tcp(target.host, target.port)
            if target.context is not None:
                stream = await TLSStream.wrap(
                    stream,
                    hostname=target.host,
                    ssl_context=target.context,
                    # As every other HTTP client: few hang up by the book.
                    standard_compatible=False,
                )
    return AsyncWire(stream)


class AsyncWire:
    """Tasks may share it: one receives, any send."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._sending = anyio.Lock()

    async def receive(self) -> bytes:
        try:
            with _mapped(), anyio.fail_after(min(_SILENCE_SECONDS, remaining())):
                return await self._stream.receive(_PIECE)
        except anyio.EndOfStream:
            return b""

    async def send(self, take: Callable[[], bytes]) -> None:
        with _mapped(), anyio.fail_after(remaining()):
            async with self._sending:
                await self._stream.send(take())

    async def send_at_once(self, take: Callable[[], bytes]) -> None:
        if not self._sending.locked() and _has_room(self._stream.extra(SocketAttribute.raw_socket)):
            await self.send(take)

    async def close(self) -> None:
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await self._stream.aclose()
