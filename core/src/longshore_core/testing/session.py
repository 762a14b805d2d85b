"""A sandbox as its user has it: programs are run in it and files moved, over the guest's API.

`docs/sandbox-daemon.md` has that API; any guest that speaks it can be examined.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import quote_from_bytes, urlencode

import anyio
import h11

from longshore_core._errors import GuestError
from longshore_core._model import ContainerSpec, Handle, Launch, Reach
from longshore_core.abc import Driver, Guest
from longshore_core.reach import HTTP, connect
from longshore_core.testing.expect import Broken
from longshore_core.testing.law import Missing

TOKEN: Final = "token-of-the-law"
_PIECE: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The body as a JSON object."""
        return cast("dict[str, Any]", json.loads(self.body))

    @property
    def code(self) -> str:
        """What an error says for programs; empty when it is none."""
        return str(self.data.get("code", "")) if self.status >= 400 and self.body else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended, and all that it has written."""

    pid: int
    code: int | None
    signal: int | None
    timed_out: bool
    stdout: bytes
    stderr: bytes


class Call:
    """One request, whose answer comes piece by piece."""

    def __init__(self, sock: socket.socket, connection: h11.Connection) -> None:
        self._sock = sock
        self._connection = connection
        self.status = 0
        self.headers: dict[str, str] = {}

    async def begin(self) -> None:
        """Wait for the head of the answer."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = {k.decode().lower(): v.decode() for k, v in event.headers}
                return
            if not isinstance(event, h11.InformationalResponse):
                raise GuestError(f"the guest answered with {type(event).__name__}", retryable=True)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body. Raises GuestError when it breaks off."""
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise GuestError("the guest broke off its answer", retryable=True)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The body as server-sent events: the data of each."""
        rest = b""
        async for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n\n")
            for block in whole:
                for line in block.split(b"\n"):
                    if line.startswith(b"data: "):
                        yield json.loads(line[6:])

    async def _next(self) -> object:
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as exc:
                raise GuestError(f"the guest broke off: {exc}", retryable=True) from exc
            if event is not h11.NEED_DATA:
                return event
            self._connection.receive_data(await self._receive())

    async def _receive(self) -> bytes:
        while True:
            await anyio.wait_readable(self._sock)
            try:
                return self._sock.recv(_PIECE)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise GuestError(f"the guest went away: {exc.strerror}", retryable=True) from exc


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """A released container, reached as the proxy reaches it."""

    handle: Handle
    reach: Reach
    token: str = TOKEN
    trace: Callable[[str], None] = field(default=lambda _: None)

    # Programs.

    async def run(self, *argv: str, **command: object) -> Finished:
        """Run a program to its end. Its input is empty; the rest are fields of a command, and
        `timeout`. Raises GuestError."""
        asked = {"command": argv[0], "args": list(argv[1:]), **command}
        pid, ending = 0, dict[str, Any]()
        async with self.call("POST", "processes/run", json.dumps(asked).encode()) as call:
            await _succeeded(call)
            async for event in call.events():
                pid = int(event.get("pid", pid))
                ending = event
        return await self._finished(argv, pid, ending)

    async def run_quietly(self, *argv: str) -> Finished:
        """Run a program to its end, and look at what it has written only then."""
        pid = await self.spawn(*argv)
        ending = await self._ended(pid)
        return await self._finished(argv, pid, ending)

    async def spawn(self, *argv: str, **command: object) -> int:
        """Start a program and answer its pid."""
        asked = {"command": argv[0], "args": list(argv[1:]), **command}
        answer = await self.ask("POST", "processes", json.dumps(asked).encode())
        if answer.status != 201:
            raise GuestError(f"{argv[0]} was not started: {answer.status} {answer.code}")
        return int(answer.data["pid"])

    async def info(self, pid: int) -> dict[str, Any]:
        return (await self.ask("GET", f"processes/{pid}")).data

    async def ended(self, pid: int) -> dict[str, Any]:
        """Wait for a program that was spawned to end, and all who hold its output."""
        async with self.call("GET", f"processes/{pid}/output/follow") as call:
            await _succeeded(call)
            async for _ in call.pieces():
                pass
        return await self._ended(pid)

    async def _ended(self, pid: int) -> dict[str, Any]:
        while True:
            info = await self.info(pid)
            if info["status"] != "running":
                return info
            await anyio.sleep(0.01)

    async def output(self, pid: int, kind: str = "stdout", offset: int = 0) -> bytes:
        """What a program has written by now, from a byte on."""
        path = f"processes/{pid}/{kind}?raw=1&offset={offset}"
        return (await self.ask("GET", path)).body

    async def feed(self, pid: int, data: bytes) -> Answer:
        return await self.ask("POST", f"processes/{pid}/stdin", data)

    # Files.

    async def write(self, path: str | bytes, data: bytes) -> Answer:
        return await self.ask("PUT", f"files?path={_quoted(path)}", data)

    async def read(self, path: str | bytes) -> Answer:
        return await self.ask("GET", f"files?path={_quoted(path)}")

    async def delete(self, path: str | bytes) -> Answer:
        return await self.ask("DELETE", f"files?path={_quoted(path)}")

    async def list(self, path: str) -> Answer:
        return await self.ask("GET", f"files/list?{urlencode({'path': path})}")

    # HTTP.

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """One request and its whole answer."""
        async with self.call(method, path, body, headers) as call:
            await call.begin()
            whole = b"".join([piece async for piece in call.pieces()])
            return Answer(status=call.status, headers=call.headers, body=whole)

    @asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> AsyncGenerator[Call]:
        """One request, on a connection of its own; `begin` is left to do. Raises GuestError."""
        sock = await connect(self.reach, HTTP)
        try:
            connection = h11.Connection(h11.CLIENT)
            fields = [
                ("Host", "sandbox"),
                ("Longshore-Sandbox-Token", self.token),
                ("Content-Length", str(len(body))),
                *headers,
            ]
            request = h11.Request(method=method, target=f"/api/v1/{path}", headers=fields)
            await _send(sock, connection.send(request) or b"")
            await _send(sock, body)
            connection.send(h11.Data(data=body))
            connection.send(h11.EndOfMessage())
            yield Call(sock, connection)
        finally:
            sock.close()

    async def break_off(self, method: str, path: str, sent: bytes, *, claimed: int) -> None:
        """Begin a request whose body is shorter than it claims to be, and hang up."""
        sock = await connect(self.reach, HTTP)
        try:
            head = f"{method} /api/v1/{path} HTTP/1.1\r\nHost: sandbox\r\n"
            fields = f"Longshore-Sandbox-Token: {self.token}\r\nContent-Length: {claimed}\r\n\r\n"
            await _send(sock, (head + fields).encode() + sent)
        finally:
            sock.close()

    async def _finished(self, argv: Sequence[str], pid: int, ending: Mapping[str, Any]) -> Finished:
        finished = Finished(
            pid=pid,
            code=ending.get("exit_code"),
            signal=ending.get("signal"),
            timed_out=bool(ending.get("timed_out")),
            stdout=await self.output(pid, "stdout"),
            stderr=await self.output(pid, "stderr"),
        )
        self.trace(
            f"run {argv[0]} -> code={finished.code} signal={finished.signal} "
            f"stdout={_digest(finished.stdout)} stderr={_digest(finished.stderr)}"
        )
        return finished


async def open_sandbox(driver: Driver, guest: Guest, spec: ContainerSpec, **env: str) -> Sandbox:
    """Start the guest in a container and release it."""
    sandbox = await held_sandbox(driver, guest, spec)
    session = await guest.connect(sandbox.reach)
    try:
        await session.go(Launch(token=TOKEN, env=env))
    finally:
        await session.aclose()
    return sandbox


async def held_sandbox(driver: Driver, guest: Guest, spec: ContainerSpec) -> Sandbox:
    """Start the guest in a container and leave it held."""
    described = guest.launch(spec, driver_facts(driver))
    handle = await driver.create(described)
    attachment = await driver.start(handle)
    if attachment.reach is None:
        raise Broken("the driver declares sockets, and its attachment has no reach")
    return Sandbox(handle=handle, reach=attachment.reach)


def driver_facts(driver: Driver) -> Any:
    """The facts of an adapted driver."""
    facts = getattr(driver, "facts", None)
    if facts is None:
        raise Missing("a driver that says what it can do")
    return facts


async def _succeeded(call: Call) -> None:
    await call.begin()
    if call.status >= 400:
        body = b"".join([piece async for piece in call.pieces()])
        answer = Answer(status=call.status, headers=call.headers, body=body)
        raise GuestError(f"the guest refused: {answer.status} {answer.code}")


async def _send(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view[: 1 << 20]) :]
        except BlockingIOError:
            await anyio.wait_writable(sock)
        except OSError:
            return  # it hung up on us: its answer, if there is one, says why


def _quoted(path: str | bytes) -> str:
    return quote_from_bytes(path.encode() if isinstance(path, str) else path, safe="/")


def _digest(data: bytes) -> str:
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()[:12]}"
