"""Whatever the engine streams, over httpx: the docker SDK's own streams cannot be cancelled.

The one place where httpx is used, as `engine.py` is for the SDK.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast

import anyio
import httpcore
import httpx
from longshore_core import BackendError, Chunk, EngineUnavailable, Stream
from longshore_core.address import TcpAddress, UnixAddress

from longshore_docker.engine import Engine, Refused, away

_CONNECT_SECONDS: Final = 5
_FRAME_HEAD: Final = 8
_SWITCHED: Final = 101
_PIECE: Final = 65536


class Streams:
    """Long answers of an engine. Each is read by whoever has asked, and ends when it is left."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        address = engine.address
        self._address = address
        path = address.path if isinstance(address, UnixAddress) else None
        host = f"{address.host}:{address.port}" if isinstance(address, TcpAddress) else "docker"
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=path, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
            ),
            base_url=f"http://{host}",
            # A stream may be silent for as long as nothing happens.
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def events(
        self, since: float, filters: Mapping[str, list[str]]
    ) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
        """What happens on the engine, from a moment on."""
        query = {"since": f"{since:.9f}", "filters": json.dumps(filters)}
        async with self._stream("follow events", "GET", "/events", query) as answer:
            yield self._objects(answer, "follow events")

    @asynccontextmanager
    async def pull(
        self, query: Mapping[str, str], auth: Mapping[str, str] | None
    ) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
        """How the pull of an image comes along; it ends when this is left."""
        headers = dict[str, str]()
        if auth:
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(
                json.dumps(auth).encode()
            ).decode()
        what = f"pull {query['fromImage']}"
        async with self._stream(what, "POST", "/images/create", query, headers=headers) as answer:
            yield self._objects(answer, what)

    @asynccontextmanager
    async def logs(self, container: str, *, follow: bool) -> AsyncGenerator[AsyncIterator[Chunk]]:
        """What PID 1 wrote, from the beginning of what is kept."""
        what = f"read the output of container {container}"
        query = {"stdout": "1", "stderr": "1", "follow": "1" if follow else "0"}
        async with self._stream(what, "GET", f"/containers/{container}/logs", query) as answer:
            yield demultiplex(self._raw(answer, what))

    @asynccontextmanager
    async def attached(self, exec_id: str) -> AsyncGenerator[Attached]:
        """Start a process that was made, and hold its three streams."""
        what = "start a process"
        headers = {"Upgrade": "tcp", "Connection": "Upgrade"}
        path, body = f"/exec/{exec_id}/start", {"Detach": False, "Tty": False}
        async with self._stream(what, "POST", path, {}, headers=headers, body=body) as answer:
            stream = answer.extensions.get("network_stream")
            if answer.status_code != _SWITCHED or stream is None:
                raise BackendError(f"cannot {what}: the engine did not hand out its streams")
            yield Attached(stream)

    @asynccontextmanager
    async def _stream(
        self,
        what: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> AsyncGenerator[httpx.Response]:
        version = await self._engine.api_version()
        request = self._client.build_request(
            method, f"/v{version}{path}", params=dict(query), headers=headers, json=body
        )
        with self._blame(what):
            answer = await self._client.send(request, stream=True)
        try:
            if answer.is_error:
                with self._blame(what):
                    text = (await answer.aread()).decode(errors="replace")
                raise Refused(f"cannot {what}: {_message(text)}", answer.status_code)
            yield answer
        finally:
            with anyio.CancelScope(shield=True):
                await answer.aclose()

    async def _objects(self, answer: httpx.Response, what: str) -> AsyncIterator[dict[str, Any]]:
        with self._blame(what):
            async for line in answer.aiter_lines():
                if line.strip():
                    yield cast("dict[str, Any]", json.loads(line))

    async def _raw(self, answer: httpx.Response, what: str) -> AsyncIterator[bytes]:
        with self._blame(what):
            async for piece in answer.aiter_raw():
                yield piece

    @contextmanager
    def _blame(self, what: str) -> Generator[None]:
        try:
            yield
        except httpx.ConnectError as exc:
            raise EngineUnavailable(away(self._address, exc)) from exc
        except httpx.HTTPError as exc:
            message = f"the Docker engine at {self._address} went away while asked to {what}"
            raise EngineUnavailable(message) from exc
        except ValueError as exc:
            raise BackendError(f"cannot {what}: the engine's answer cannot be read") from exc


class Attached:
    """The three streams of a process, over one connection."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        """Write to its standard input. Raises BackendError when it takes no more."""
        try:
            await self._stream.write(data)
        except httpcore.NetworkError as exc:
            raise BackendError("the process takes no more input") from exc

    def send_eof(self) -> None:
        """Close its standard input. Idempotent."""
        sock = cast("socket.socket | None", self._stream.get_extra_info("socket"))
        with contextlib.suppress(OSError):
            if sock is not None:
                sock.shutdown(socket.SHUT_WR)

    def output(self) -> AsyncGenerator[Chunk]:
        """What it writes, until both its streams are closed."""
        return demultiplex(self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            while piece := await self._stream.read(_PIECE):
                yield piece
        except httpcore.NetworkError as exc:
            raise EngineUnavailable("the engine went away while a process ran") from exc


async def demultiplex(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Chunk]:
    """Take apart what the engine has put into one stream: heads of eight bytes, each before what
    one of the two streams has written."""
    buffer, offset = bytearray(), 0
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= _FRAME_HEAD:
            end = _FRAME_HEAD + int.from_bytes(buffer[4:_FRAME_HEAD], "big")
            if len(buffer) < end:
                break
            stream = Stream.STDERR if buffer[0] == 2 else Stream.STDOUT
            data = bytes(buffer[_FRAME_HEAD:end])
            del buffer[:end]
            yield Chunk(stream, offset, data)
            offset += len(data)


def _message(text: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return " ".join(str(json.loads(text)["message"]).split())
    return " ".join(text.split()) or "no reason given"
