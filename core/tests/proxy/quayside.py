"""A fake worker that feeds routes, fake guests behind real sockets, and a client for raw bytes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketStream, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream
from longshore_core._proxy.serve import ProxySettings, serve_proxy

Handler = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One end of a connection, with what a test needs to read from it."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._buffered = BufferedByteReceiveStream(stream)

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def head(self) -> bytes:
        return await self._buffered.receive_until(b"\r\n\r\n", 1 << 20)

    async def exactly(self, size: int) -> bytes:
        return await self._buffered.receive_exactly(size)

    async def until(self, end: bytes) -> bytes:
        return await self._buffered.receive_until(end, 1 << 20) + end

    async def some(self) -> bytes:
        return await self._buffered.receive()

    async def rest(self) -> bytes:
        parts = list[bytes]()
        try:
            while True:
                parts.append(await self._buffered.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b"".join(parts)

    async def answer(self) -> Answer:
        """Read one response with a content-length."""
        head = await self.head()
        lines = head.split(b"\r\n")
        fields = {
            name.strip().lower().decode(): value.strip().decode()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        body = await self.exactly(int(fields.get("content-length", 0)))
        return Answer(status=int(lines[0].split()[1]), fields=fields, body=body)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def respond(peer: Peer, body: bytes = b"ok", fields: bytes = b"") -> None:
    """The simplest answer there is."""
    await peer.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (fields, len(body)) + body)


@dataclass
class Guest:
    """A container's guest: `control.sock` that hands out ports, `http.sock` for the API."""

    path: Path
    tasks: TaskGroup
    ports: dict[int, int] = field(default_factory=dict)
    """Ports inside, by the real ports of this host."""
    dials: int = 0
    connections: int = 0
    refuse_with: str = "CONNECTION_REFUSED"
    open: list[Peer] = field(default_factory=list)

    async def serve_api(self, handler: Handler) -> None:
        listener = await anyio.create_unix_listener(self.path / "http.sock")
        self.tasks.start_soon(self._serve, listener, handler)

    async def serve_port(self, port: int, handler: Handler) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.ports[port] = listener.extra(anyio.abc.SocketAttribute.local_port)
        self.tasks.start_soon(self._serve, listener, handler)

    async def serve_control(self) -> None:
        listener = await anyio.create_unix_listener(self.path / "control.sock")
        self.tasks.start_soon(self._control_all, listener)

    async def _control_all(self, listener: Any) -> None:
        async with listener:
            await listener.serve(self._control)

    async def _serve(self, listener: Any, handler: Handler) -> None:
        async def one(stream: SocketStream) -> None:
            self.connections += 1
            peer = Peer(stream)
            self.open.append(peer)
            async with stream:
                try:
                    await handler(peer)
                except (
                    anyio.EndOfStream,
                    anyio.IncompleteRead,
                    anyio.BrokenResourceError,
                    anyio.ClosedResourceError,
                ):
                    return

        async with listener:
            await listener.serve(one)

    async def _control(self, stream: Any) -> None:
        async with stream:
            buffered = BufferedByteReceiveStream(stream)
            while True:
                try:
                    request = json.loads(await buffered.receive_until(b"\n", 65536))
                except (anyio.IncompleteRead, anyio.BrokenResourceError):
                    return
                self.dials += 1
                port = self.ports.get(request["port"])
                if port is None:
                    answer = {"ok": False, "code": self.refuse_with, "error": "nothing there"}
                    await stream.send(json.dumps(answer).encode() + b"\n")
                    continue
                with socket.create_connection(("127.0.0.1", port)) as sock:
                    await stream.send_fds(b'{"ok": true}\n', [sock.fileno()])


class Worker:
    """Feeds routes to the proxy."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.routes: list[dict[str, Any]] = []
        self.seq = 0
        self.resets = 0
        self.peer: Peer | None = None
        self._connected = anyio.Event()
        self._scope: anyio.CancelScope | None = None

    async def run(self, *, task_status: Any) -> None:
        path = self.state_dir / "routes.sock"
        path.unlink(missing_ok=True)
        with anyio.CancelScope() as self._scope:
            async with await anyio.create_unix_listener(path) as listener:
                task_status.started()
                await listener.serve(self._follow)

    async def _follow(self, stream: SocketStream) -> None:
        async with stream:
            peer = Peer(stream)
            message = {"v": 1, "epoch": "e", "seq": self.seq, "reset": self.routes}
            await peer.send(json.dumps(message).encode() + b"\n")
            assert json.loads(await peer.until(b"\n")) == {"ack": self.seq}
            self.peer, self.resets = peer, self.resets + 1
            self._connected.set()
            await anyio.sleep_forever()

    async def wait_connected(self) -> Peer:
        await self._connected.wait()
        assert self.peer is not None
        return self.peer

    def expect_reconnect(self) -> None:
        self._connected = anyio.Event()

    def stop(self) -> None:
        assert self._scope is not None
        self.expect_reconnect()
        self._scope.cancel()

    async def put(self, **route: Any) -> None:
        """Set a route and wait until the proxy has it."""
        self.routes = [one for one in self.routes if one["id"] != route["id"]]
        self.routes.append(route)
        await self.tell({"put": route})

    async def drop(self, container: str) -> None:
        self.routes = [one for one in self.routes if one["id"] != container]
        await self.tell({"drop": container})

    async def tell(self, change: dict[str, Any]) -> None:
        self.seq += 1
        peer = await self.wait_connected()
        await peer.send(json.dumps({"seq": self.seq, **change}).encode() + b"\n")
        assert json.loads(await peer.until(b"\n")) == {"ack": self.seq}


@dataclass
class Dock:
    """A proxy that runs, its worker, and what a test needs to add to them."""

    state_dir: Path
    tasks: TaskGroup
    worker: Worker
    stack: AsyncExitStack
    port: int = 0
    proxy: anyio.CancelScope | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def guest(self, name: str = "c1", *, sandbox_id: str | None = None) -> Guest:
        """A running container, with its route known to the proxy."""
        path = self.state_dir / "guests" / name
        path.mkdir(parents=True)
        guest = Guest(path, self.tasks)
        await guest.serve_control()
        await self.worker.put(
            id=name, sandbox_id=sandbox_id, status="running", dir=str(path), token=f"token-{name}"
        )
        return guest

    async def client(self) -> Peer:
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        return Peer(await self.stack.enter_async_context(stream))

    async def ask(self, raw: bytes) -> Answer:
        peer = await self.client()
        await peer.send(raw)
        answer = await peer.answer()
        await peer.stream.aclose()
        return answer


@asynccontextmanager
async def running(state_dir: Path, **changes: Any) -> AsyncGenerator[Dock, None]:
    settings = replace(
        ProxySettings(state_dir=state_dir, listen_addr="127.0.0.1", port=0), **changes
    )
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
            dock = Dock(state_dir, tasks, Worker(state_dir), stack)

            async def proxy(*, task_status: Any) -> None:
                with anyio.CancelScope() as dock.proxy:
                    await serve_proxy(settings, task_status=task_status)
                dock.ended.set()

            await tasks.start(dock.worker.run)
            dock.port = await tasks.start(proxy)
            await dock.worker.wait_connected()
            yield dock
            if dock.proxy is not None:
                dock.proxy.cancel()
            with anyio.fail_after(10):
                await stack.aclose()
                await dock.ended.wait()
            tasks.cancel_scope.cancel()


def get(path: str = "/", *fields: str, sandbox: str = "c1") -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Tensorlake-Sandbox-Id: {sandbox}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
