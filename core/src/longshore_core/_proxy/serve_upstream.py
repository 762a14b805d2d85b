"""Connections to guests: opened by reaching into the container, kept for the next request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast

import anyio

from longshore_core import reach
from longshore_core._errors import BackendError
from longshore_core._model import UnixReach
from longshore_core._proxy import answers
from longshore_core._proxy.answers import Refusal
from longshore_core._proxy.routing import API_PORT, Forward
from longshore_core._proxy.settings import KeepAlive, ProxySettings
from longshore_core._proxy.table import Route

Key: TypeAlias = tuple[str, str, int]
"""Container, directory of its guest's sockets, port."""

_LEFTOVER_LIMIT: Final = 1 << 20


class Receiver(Protocol):
    """Who an upstream connection works for at the moment."""

    def upstream_data(self, data: bytes) -> None: ...
    def upstream_eof(self) -> bool:
        """The sandbox has said all; True keeps the connection open for what goes there."""
        ...

    def upstream_lost(self, exc: Exception | None) -> None: ...
    def upstream_writable(self, writable: bool) -> None: ...


class Upstream(asyncio.Protocol):
    """One connection to a port of a container, or to its guest's API."""

    __slots__ = ("_pool", "_receiver", "_sock", "_transport", "idle_since", "key", "reused")

    def __init__(self, pool: Pool, key: Key, sock: socket.socket) -> None:
        self._pool = pool
        self._sock = sock
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self.key = key
        self.reused = False
        self.idle_since = 0.0

    @property
    def closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def work_for(self, receiver: Receiver | None) -> None:
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def unsent(self) -> int:
        """How many bytes wait to be taken by the sandbox."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def read(self, *, wanted: bool) -> None:
        """Go on reading, or let the sandbox wait."""
        if self._transport is not None:
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """Close once all is sent. For an exchange that has come to its end in both directions."""
        self._receiver = None
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def alive(self) -> bool:
        """Whether the sandbox has kept the connection; asks the kernel."""
        if self._transport is None or self._transport.is_closing():
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What `create_connection` makes is a Transport; the base class only says less.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            # Nobody asked for anything: whatever this is, it must not become somebody's answer.
            self.abort()
        else:
            self._receiver.upstream_data(data)

    def eof_received(self) -> bool:
        return self._receiver.upstream_eof() if self._receiver is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if exc is not None:
            self._read_leftovers()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.upstream_lost(exc)

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.upstream_writable(False)

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.upstream_writable(True)

    def _read_leftovers(self) -> None:
        # A sandbox that answers early and hangs up breaks our writing; its answer is still here.
        taken = 0
        with contextlib.suppress(OSError):
            while self._receiver is not None and taken < _LEFTOVER_LIMIT:
                data = self._sock.recv(65536, socket.MSG_DONTWAIT)
                if not data:
                    return
                taken += len(data)
                self._receiver.upstream_data(data)


class Pool:
    """Connections that wait for their next request, by where they lead."""

    def __init__(self, *, limit: int, now: Callable[[], float]) -> None:
        self._limit = limit
        self._now = now
        self._count = 0
        self._idle: dict[Key, list[Upstream]] = {}

    def take(self, key: Key, *, certain: bool) -> Upstream | None:
        """The connection that was used last. `certain`: only one that the sandbox has kept."""
        while idle := self._idle.get(key):
            upstream = idle[-1]
            self.forget(upstream)
            if not certain or upstream.alive():
                upstream.reused = True
                return upstream
            upstream.abort()
        return None

    def give(self, upstream: Upstream) -> None:
        """Keep a connection for later; close it when there are enough."""
        upstream.work_for(None)
        if self._count >= self._limit or upstream.closing:
            upstream.close()
            return
        upstream.read(wanted=True)
        upstream.idle_since = self._now()
        self._idle.setdefault(upstream.key, []).append(upstream)
        self._count += 1

    def forget(self, upstream: Upstream) -> None:
        """It is idle no longer. One that was not is no matter."""
        idle = self._idle.get(upstream.key)
        if idle is None or upstream not in idle:
            return
        idle.remove(upstream)
        self._count -= 1
        if not idle:
            del self._idle[upstream.key]

    def close(self, *, idle_seconds: float = 0) -> None:
        """Close what has been idle for so long."""
        limit = self._now() - idle_seconds
        old = [one for idle in self._idle.values() for one in idle if one.idle_since <= limit]
        for upstream in old:
            self.forget(upstream)
            upstream.close()


def key_of(route: Route, port: int) -> Key:
    """Where connections to this port of the route lead."""
    return route.id, route.dir or "", port


@dataclass(frozen=True, slots=True)
class Unreached:
    """Why there is no connection: for the caller, and for the log."""

    refusal: Refusal
    reason: str


async def open_upstream(
    forward: Forward, pool: Pool, settings: ProxySettings
) -> Upstream | Unreached:
    """Connect to where a request goes, within the deadline for that."""
    try:
        with anyio.fail_after(settings.timeouts.connect_seconds):
            return await _connect(forward.route, forward.port, pool, settings.keepalive)
    except TimeoutError:
        return Unreached(answers.CONNECTION_TIMEOUT, "no connection in time")
    except reach.DialError as exc:
        return Unreached(_REASONS.get(exc.reason, answers.PROXY_ERROR), str(exc))
    except (BackendError, OSError) as exc:
        return Unreached(answers.CONNECTION_REFUSED, str(exc))


async def _connect(route: Route, port: int, pool: Pool, keepalive: KeepAlive) -> Upstream:
    key = key_of(route, port)
    directory = UnixReach(key[1])
    if port == API_PORT:
        sock = await reach.connect(directory, reach.HTTP)
    else:
        sock = await reach.dial(directory, port)
        probe(sock, keepalive)
    try:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(lambda: Upstream(pool, key, sock), sock=sock)
    except BaseException:
        sock.close()
        raise
    return upstream


_REASONS: Final = {
    "CONNECTION_REFUSED": answers.CONNECTION_REFUSED,
    "CONNECTION_TIMEOUT": answers.CONNECTION_TIMEOUT,
    "INVALID_PORT": answers.INVALID_SANDBOX_PORT,
    "NOT_RELEASED": answers.not_running("pending"),
}


def probe(sock: socket.socket, keepalive: KeepAlive) -> None:
    """Have the kernel find out when the peer of a TCP socket has vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle_seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval_seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.count)
