"""The proxy as a service: listens, follows the routes, and stops without cutting anybody off."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskStatus

from longshore_core._errors import ConfigError
from longshore_core._heads import RequestHead
from longshore_core._proxy.feed import follow_routes
from longshore_core._proxy.layers import compose, named
from longshore_core._proxy.routing import Decision, route
from longshore_core._proxy.serve_client import Client
from longshore_core._proxy.serve_context import Context, Spawn
from longshore_core._proxy.serve_upstream import Pool, probe
from longshore_core._proxy.settings import KeepAlive as KeepAlive
from longshore_core._proxy.settings import ProxySettings as ProxySettings
from longshore_core._proxy.settings import Timeouts as Timeouts
from longshore_core._proxy.table import RouteTable

LOCK: Final = "proxy.lock"
LOGGER: Final = "longshore_core.http_proxy"
_BACKLOG: Final = 1024


async def serve_proxy(
    settings: ProxySettings, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled, then finish what is in progress, for as long as the grace says.

    Reports the port once it listens. One proxy for each `state_dir`. Runs on asyncio only. Raises
    ConfigError when the address cannot be listened on or another proxy holds the state directory.
    """
    with _locked(settings.state_dir), contextlib.ExitStack() as listening:
        sockets = [listening.enter_context(sock) for sock in await _listen(settings)]
        stop = anyio.Event()
        async with anyio.create_task_group() as outside:
            outside.start_soon(_serve, settings, sockets, stop)
            task_status.started(sockets[0].getsockname()[1])
            try:
                # No deadline: a service ends when it is told to.
                await anyio.sleep_forever()
            finally:
                stop.set()


async def _serve(settings: ProxySettings, sockets: list[socket.socket], stop: anyio.Event) -> None:
    loop, log = asyncio.get_running_loop(), structlog.get_logger(LOGGER).bind()
    table = RouteTable()
    # Shielded: requests in progress outlive the cancellation that tells the proxy to stop.
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            context = _context(settings, table, log, tasks.start_soon)
            servers = [
                await loop.create_server(lambda: Client(context), sock=sock, backlog=_BACKLOG)
                for sock in sockets
            ]
            try:
                tasks.start_soon(follow_routes, settings.state_dir, table, log)
                tasks.start_soon(_keep_time, context)
                log.info(
                    "Starting HTTP proxy server",
                    listen_addr=settings.listen_addr,
                    port=sockets[0].getsockname()[1],
                )
                await stop.wait()
            finally:
                for server in servers:
                    server.close()
            await _drain(context)
            tasks.cancel_scope.cancel()


def _context(settings: ProxySettings, table: RouteTable, log: Any, spawn: Spawn) -> Context:
    layers = named(settings.middlewares)

    def decide(request: RequestHead) -> Decision:
        return route(request, table, settings.domains)

    now = asyncio.get_running_loop().time
    return Context(
        settings=settings,
        layers=layers,
        asks=tuple(compose(layers[:count], decide) for count in range(len(layers) + 1)),
        pool=Pool(limit=settings.idle_upstreams, now=now),
        spawn=spawn,
        now=now,
        log=log,
        boot=secrets.token_hex(4),
    )


async def _keep_time(context: Context) -> None:
    """Hold every wait against its deadline.

    One task looks over all connections about once a second, in place of a timer for each wait:
    requests are many and timeouts are rare.
    """
    timeouts = context.settings.timeouts
    shortest = min(
        timeouts.read_seconds,
        timeouts.write_seconds,
        timeouts.body_seconds,
        timeouts.head_seconds,
        timeouts.keep_alive_seconds,
        timeouts.upstream_idle_seconds,
        timeouts.linger_seconds,
    )
    while True:
        await anyio.sleep(min(1.0, shortest / 4))
        now = context.now()
        for client in tuple(context.clients):
            client.check(now)
        context.pool.close(idle_seconds=timeouts.upstream_idle_seconds)


async def _drain(context: Context) -> None:
    context.drained = anyio.Event()
    for client in tuple(context.clients):
        client.retire()
    if context.clients:
        context.log.info("Draining HTTP proxy", connections=len(context.clients))
        with anyio.move_on_after(context.settings.timeouts.drain_seconds):
            await context.drained.wait()
    for client in tuple(context.clients):
        client.abort()
    if context.clients:
        # The loop tells a connection of its end in the next turn.
        with anyio.move_on_after(1):
            await context.drained.wait()
    context.pool.close()
    context.log.info("HTTP proxy stopped")


@contextlib.contextmanager
def _locked(state_dir: Path) -> Generator[None, None, None]:
    try:
        lock = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(
            "state_dir", f"cannot lock {state_dir / LOCK}: {exc.strerror}; make it writable"
        ) from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigError(
                "state_dir",
                f"another proxy already serves {state_dir}; stop it, or choose another directory",
            ) from exc
        # For whoever has to stop it: the worker that started it, or the next one.
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


async def _listen(settings: ProxySettings) -> list[socket.socket]:
    """Bound sockets; `asyncio` makes them listen. The first is of the port that the proxy names."""
    sockets = list[socket.socket]()
    try:
        for port in (settings.port, *settings.extra_ports):
            await _listen_on(port, settings, sockets)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def _listen_on(port: int, settings: ProxySettings, sockets: list[socket.socket]) -> None:
    """Add a socket for each address of the host's name, all on one port."""
    address = settings.listen_addr.strip("[]")
    try:
        found = await anyio.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as exc:
        raise ConfigError(
            "http_proxy.listen_addr", f"{address!r} is not an address: {exc.strerror}"
        ) from exc
    for family, _, _, _, name in dict.fromkeys(found):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sockets.append(sock)
        _bind(sock, name[0], port, settings)
        # A name may have several addresses; a port that is chosen is the same for all.
        port = sock.getsockname()[1]


def _bind(sock: socket.socket, address: str, port: int, settings: ProxySettings) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by the connections that it accepts. asyncio sets the second by itself, but only
    # for sockets that name their protocol, which accepted ones here do not: without it, an answer
    # in two pieces waits 40 ms for the client's delayed acknowledgement.
    probe(sock, settings.keepalive)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sock.family == socket.AF_INET6:
        # `::` means every address, IPv4's too; any other address is itself alone.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
    try:
        sock.bind((address, port))
        # Two may be bound to one port; only one may listen.
        sock.listen(_BACKLOG)
    except OSError as exc:
        key = "http_proxy.extra_ports" if port in settings.extra_ports else "http_proxy.port"
        if exc.errno == errno.EADDRINUSE:
            message = "is already in use; stop what listens there, or choose another port"
            raise ConfigError(key, f"{port} on {address} {message}") from exc
        if exc.errno == errno.EACCES:
            message = "needs privileges; choose a port from 1024 on"
            raise ConfigError(key, f"{port} {message}") from exc
        raise ConfigError(
            "http_proxy.listen_addr", f"cannot listen on {address}: {exc.strerror}"
        ) from exc
