"""Connected and listening sockets, as coroutines see them."""

from __future__ import annotations

import os
from _socket import (
    AF_INET,
    AF_UNIX,
    SHUT_WR,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from time import monotonic

from longshore_daemon.inside.journal import note
from longshore_daemon.inside.loop import GONE, READ, WRITE, Wait, pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from longshore_daemon.inside.loop import Job, Loop

_PIECE = 262144
_BACKLOG = 1024


class Disconnected(Exception):
    """The peer went away, or kept silent for too long."""


class Stream:
    """A connection. What was received and not used can be put back."""

    __slots__ = ("_back", "socket")

    def __init__(self, sock: socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._back = b""

    @property
    def gone(self) -> tuple[int, int]:
        """To wait for along with other things: the peer hangs up."""
        return (self.socket.fileno(), GONE)

    def put_back(self, data: bytes) -> None:
        self._back = data + self._back

    async def receive(self, seconds: float) -> bytes:
        """At least one byte. Raises Disconnected at the end, or when nothing comes for so long."""
        if self._back:
            data, self._back = self._back, b""
            return data
        deadline = monotonic() + seconds
        while True:
            try:
                data = self.socket.recv(_PIECE)
            except BlockingIOError:
                if not await Wait((self.socket.fileno(), READ), deadline=deadline):
                    raise Disconnected("nothing came") from None
                continue
            except OSError as exc:
                raise Disconnected(str(exc)) from exc
            if not data:
                raise Disconnected("the peer has finished")
            return data

    def receive_now(self, finished: bytes | None = None) -> bytes | None:
        """What is there; `None` for nothing yet. Raises Disconnected at the end.

        With `finished`, that stands for an orderly end.
        """
        if self._back:
            data, self._back = self._back, b""
            return data
        try:
            data = self.socket.recv(_PIECE)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise Disconnected(str(exc)) from exc
        if not data:
            if finished is not None:
                return finished
            raise Disconnected("the peer has finished")
        return data

    def send_now(self, data: bytes | bytearray) -> int:
        """As much as goes at once: how much that was. Raises Disconnected."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise Disconnected(str(exc)) from exc

    async def send(self, data: bytes) -> None:
        """All of it, at the peer's pace: only a hang-up ends the wait for one who does not read."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                await Wait((self.socket.fileno(), WRITE))
            except OSError as exc:
                raise Disconnected(str(exc)) from exc

    async def send_file(self, descriptor: int, start: int, end: int) -> None:
        """Those bytes of a file, not passing through here. Raises Disconnected if it has fewer."""
        while start < end:
            try:
                length = min(end - start, _PIECE)
                sent = os.sendfile(self.socket.fileno(), descriptor, start, length)
            except BlockingIOError:
                await Wait((self.socket.fileno(), WRITE))
                continue
            except OSError as exc:
                raise Disconnected(str(exc)) from exc
            if not sent:
                raise Disconnected("the file has become shorter")
            start += sent
            await pause()

    async def linger(self, seconds: float) -> None:
        """Say that no more comes, and let the peer read what did: unread bytes would undo it."""
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError as exc:
            raise Disconnected(str(exc)) from exc
        deadline = monotonic() + seconds
        while True:
            await self.receive(deadline - monotonic())

    def close(self) -> None:
        self.socket.close()


def listen(name: str) -> socket:
    """A listening socket at `name` in the current directory, for its owner only."""
    if name in os.listdir():
        os.unlink(name)
    sock = socket(AF_UNIX, SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(name)
    finally:
        os.umask(mask)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


def listen_tcp(address: str) -> socket:
    """A listening socket at "HOST:PORT", of numbers. Raises OSError."""
    host, _, port = address.rpartition(":")
    sock = socket(AF_INET, SOCK_STREAM)
    sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    sock.bind((host, int(port)))
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


async def accept(loop: Loop, listener: socket, serve: Callable[[Stream], Job]) -> None:
    """Start a task for each connection, for ever."""
    while True:
        try:
            descriptor = _accept(listener)
        except BlockingIOError:
            await Wait((listener.fileno(), READ))
        except OSError as exc:
            # Descriptors or memory have run out: only time can help.
            note(f"cannot accept a connection: {exc.strerror}")
            await Wait(deadline=monotonic() + 0.1)
        else:
            loop.start(_serve(Stream(socket(fileno=descriptor)), serve))
            await pause()


def _accept(listener: socket) -> int:
    # What `socket.accept` is made of, and no stub tells of.
    descriptor, _ = getattr(listener, "_accept")()  # noqa: B009
    return int(descriptor)


async def _serve(stream: Stream, serve: Callable[[Stream], Job]) -> None:
    try:
        await serve(stream)
    except Disconnected:
        return
    finally:
        stream.close()
