"""The control socket: lines of JSON for the worker and the proxy, one answer to each."""

from __future__ import annotations

import os
from _socket import SCM_RIGHTS, SOL_SOCKET
from struct import pack

from longshore_daemon.inside.dial import DialError, dial
from longshore_daemon.inside.exchange import ApiError
from longshore_daemon.inside.fields import Fields
from longshore_daemon.inside.jsontext import NotJSON, dumps, loads
from longshore_daemon.inside.loop import WRITE, Wait
from longshore_daemon.inside.sandbox import VERSION, Sandbox
from longshore_daemon.inside.stream import Disconnected, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON

PROTOCOL = 1
_LINE_LIMIT = 4 << 20
_IDLE_SECONDS = 86400.0
"""Connections may rest: the worker keeps some. This only ends those that were forgotten."""


class Refusal(Exception):
    """The answer to a request is no. `code` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Control:
    """Serves connections, one task each."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def serve(self, stream: Stream) -> None:
        while True:
            line = await _receive_line(stream)
            descriptors: list[int] = []
            try:
                answer: dict[str, JSON] = {"ok": True, **await self._perform(line, descriptors)}
            except Refusal as exc:
                answer = {"ok": False, "code": exc.code, "error": str(exc)}
            try:
                await _send(stream, dumps(answer) + b"\n", descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    async def _perform(self, line: bytes, descriptors: list[int]) -> dict[str, JSON]:
        try:
            fields = Fields(loads(line))
            if fields.integer("v") != PROTOCOL:
                raise Refusal("UNSUPPORTED_VERSION", f"only version {PROTOCOL} is spoken here")
            operation = fields.required_text("op")
            if operation == "health":
                return self._health()
            if operation == "go":
                return self._go(fields)
            if operation == "dial":
                descriptors.append(await self._dial(fields))
                return {}
            if operation == "stop":
                self._sandbox.ask_to_stop(fields.positive("grace_seconds") or 10.0)
                return {}
        except NotJSON as exc:
            raise Refusal("INVALID_REQUEST", f"the line is not JSON: {exc}") from exc
        except ApiError as exc:
            raise Refusal("INVALID_REQUEST", str(exc)) from exc
        raise Refusal("UNKNOWN_OPERATION", f"there is no operation named {operation}")

    def _health(self) -> dict[str, JSON]:
        return {
            "version": VERSION,
            "protocol": PROTOCOL,
            "held": self._sandbox.held,
            "uptime_secs": int(self._sandbox.uptime_seconds),
        }

    def _go(self, fields: Fields) -> dict[str, JSON]:
        token = fields.required_text("token")
        env, entrypoint = fields.environment("env"), fields.texts("entrypoint")
        if not self._sandbox.release(token, env, entrypoint):
            raise Refusal("ALREADY_RELEASED", "the sandbox was released with another token")
        return {}

    async def _dial(self, fields: Fields) -> int:
        """A descriptor of a TCP connection to a port on the loopback in here."""
        if self._sandbox.held:
            raise Refusal("NOT_RELEASED", "the sandbox is not released yet")
        try:
            port = fields.integer("port")
        except ApiError as exc:
            raise Refusal("INVALID_PORT", str(exc)) from exc
        try:
            return (await dial(port)).detach()
        except DialError as exc:
            raise Refusal(exc.code, str(exc)) from exc


async def _receive_line(stream: Stream) -> bytes:
    data = bytearray()
    while True:
        piece = await stream.receive(_IDLE_SECONDS)
        line, newline, rest = piece.partition(b"\n")
        data += line
        if len(data) > _LINE_LIMIT:
            raise Disconnected("a request that is too long")
        if newline:
            if rest:
                stream.put_back(rest)
            return bytes(data)


async def _send(stream: Stream, data: bytes, descriptors: list[int]) -> None:
    """The descriptors go with the first byte."""
    if descriptors:
        rights = (SOL_SOCKET, SCM_RIGHTS, pack(f"{len(descriptors)}i", *descriptors))
        while True:
            try:
                sent = stream.socket.sendmsg([data], [rights])
            except BlockingIOError:
                await Wait((stream.socket.fileno(), WRITE))
            except OSError as exc:
                raise Disconnected(str(exc)) from exc
            else:
                data = data[sent:]
                break
    await stream.send(data)
