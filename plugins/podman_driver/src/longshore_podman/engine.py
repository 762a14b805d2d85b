"""Podman's own API, typed. Nothing else here knows httpx, or the shape of an answer.

Every call may be cancelled at once: that is why it speaks to the socket itself, where a client
that blocks would leave a thread behind. What the engine refuses is a `Refusal`; when it cannot be
asked, that is `EngineUnavailable`, and nothing follows about any container.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import pairwise
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import httpcore
import httpx
from longshore_core import BackendError, EngineUnavailable
from longshore_core.address import TcpAddress, UnixAddress

from longshore_podman.answers import (
    Container,
    ExecState,
    Image,
    Info,
    depicted,
    informed,
    inspected,
    listed,
)

Address: TypeAlias = UnixAddress | TcpAddress
Params: TypeAlias = Mapping[str, str]
Body: TypeAlias = Mapping[str, object]

_API: Final = "/v4.0.0/libpod"
_CALL_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 2.0
_PING_SECONDS: Final = 1.0
_IDLE_CONNECTIONS: Final = 1
_PIECE: Final = 1 << 16
_DEATH_SECONDS: Final = 5.0
"""From a signal to the end that it brings about."""
_TORN: Final = "container not known"
"""To its storage, which it has lost, or has not had yet."""
_GONE: Final = "no such container"
"""The cause of a 404; and of a 500, when it is removed in the middle of an answer."""
_CONFLICT: Final = 409
_FAULT: Final = 500
_BROKEN: Final = (httpcore.NetworkError, httpcore.TimeoutException)


class Refusal(BackendError):
    """The engine has heard, and will not. `status` is HTTP's, `cause` a sentence of Podman's."""

    def __init__(self, status: int, cause: str, message: str) -> None:
        # Its faults pass, as a rule: its database is locked, or it lacks descriptors.
        super().__init__(message, retryable=status == _CONFLICT or status >= _FAULT)
        self.status = status
        self.cause = cause

    @property
    def is_absence(self) -> bool:
        """Whether what was asked about does not exist, or has gone while it was looked at."""
        return self.status == 404 or self.cause == _GONE

    def __reduce__(self) -> tuple[object, ...]:
        return (Refusal, (self.status, self.cause, str(self)))


class Hijacked:
    """What is left of a connection, once it is no longer HTTP."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        """Raises BackendError when nobody reads any more."""
        try:
            await self._stream.write(data)
        except _BROKEN as exc:
            raise BackendError("the process takes no more input") from exc

    def shut_writing(self) -> None:
        with suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def pieces(self) -> AsyncIterator[bytes]:
        """All that comes, until the other side closes."""
        with suppress(*_BROKEN):
            while piece := await self._stream.read(_PIECE):
                yield piece


class Engine:
    """One Podman service. Methods raise Refusal and EngineUnavailable."""

    def __init__(self, transport: httpx.AsyncHTTPTransport, address: Address) -> None:
        self._transport = transport
        self.address = address
        is_local = isinstance(address, UnixAddress)
        self._base = "http://podman" if is_local else f"http://{str(address).partition('//')[2]}"

    # The engine.

    async def ping(self) -> str:
        """Its version. Costs nothing, other than what else would tell it."""
        said = await self._call("GET", "/_ping", seconds=_PING_SECONDS)
        return str(said.headers.get("Libpod-API-Version", ""))

    async def info(self) -> Info:
        return informed((await self._call("GET", "/info")).json())

    # Containers.

    async def containers(self, labels: Sequence[str]) -> list[Container]:
        """All that bear the labels, `name=value`, in whichever state."""
        params = {"all": "true", "filters": json.dumps({"label": list(labels)})}
        said = await self._call("GET", "/containers/json", params=params)
        return [listed(each) for each in said.json() or ()]

    async def container(self, name: str) -> Container | None:
        try:
            said = await self._call("GET", f"/containers/{name}/json")
        except Refusal as exc:
            if exc.is_absence:
                return None
            if exc.cause == _TORN:
                return await self._torn(name)
            raise
        return inspected(said.json())

    async def _torn(self, name: str) -> Container | None:
        """One that the engine was killed over: it is listed, and can be removed, and no more."""
        there = await self.containers(())
        return next((each for each in there if name in (each.name, each.id)), None)

    async def create(self, body: Body, seconds: float) -> str:
        """Make a container; the answer is its id."""
        said = await self._call("POST", "/containers/create", body=body, seconds=seconds)
        return str(said.json()["Id"])

    async def init(self, id_: str, seconds: float) -> None:
        """Let PID 1 exist, held before its first instruction. Again: nothing."""
        await self._call("POST", f"/containers/{id_}/init", seconds=seconds)

    async def start(self, id_: str, seconds: float) -> None:
        await self._call("POST", f"/containers/{id_}/start", seconds=seconds)

    async def kill(self, id_: str, signal: str) -> None:
        await self._call("POST", f"/containers/{id_}/kill", params={"signal": signal})

    async def remove(self, id_: str) -> None:
        """Kill and remove it, and its anonymous volumes. What is not there is no error."""
        params = {"force": "true", "v": "true", "timeout": "0", "ignore": "true"}
        try:
            said = await self._call("DELETE", f"/containers/{id_}", params=params)
        except Refusal as exc:
            if exc.is_absence:
                return
            raise
        for report in said.json() if said.content else ():
            if report.get("Err"):
                raise Refusal(500, "", f"container {id_[:12]} is not removed: {report['Err']}")

    async def was_killed(self, id_: str, ended_at: float) -> bool:
        """Whether somebody had the engine signal it just before it ended."""
        params = {
            "stream": "false",
            "since": str(int(ended_at - _DEATH_SECONDS)),
            "until": str(int(ended_at + _DEATH_SECONDS) + 1),
            "filters": json.dumps({"container": [id_], "event": ["kill", "died"]}),
        }
        try:
            said = (await self._call("GET", "/events", params=params)).text.splitlines()
        except Refusal:
            return False  # it keeps no events
        events = [json.loads(line) for line in said if line.strip()]
        return any(
            former["Action"] == "kill" and latter["Action"] == "died"
            for former, latter in pairwise(events)
        )

    async def pause(self, id_: str) -> None:
        await self._call("POST", f"/containers/{id_}/pause")

    async def unpause(self, id_: str) -> None:
        await self._call("POST", f"/containers/{id_}/unpause")

    async def statistics(self, id_: str) -> Mapping[str, int]:
        """`CPUNano`, `MemUsage` and `PIDs`, of one that runs."""
        params = {"containers": id_, "stream": "false"}
        said = (await self._call("GET", "/containers/stats", params=params)).json()
        if said.get("Error"):
            raise Refusal(500, "", f"no figures of container {id_[:12]}: {said['Error']}")
        return dict(said["Stats"][0])

    # Images.

    async def image(self, reference: str) -> Image | None:
        try:
            said = (await self._call("GET", f"/images/{_quoted(reference)}/json")).json()
        except Refusal as exc:
            if exc.is_absence:
                return None
            raise
        return depicted(said)

    async def images(self) -> tuple[str, ...]:
        """The references of all images, sorted."""
        said = (await self._call("GET", "/images/json")).json() or ()
        return tuple(sorted({name for image in said for name in image.get("RepoTags") or ()}))

    # Processes beside PID 1.

    async def prepare_exec(self, id_: str, body: Body) -> str:
        said = await self._call("POST", f"/containers/{id_}/exec", body=body)
        return str(said.json()["Id"])

    async def exec_state(self, exec_id: str) -> ExecState:
        said = (await self._call("GET", f"/exec/{exec_id}/json")).json()
        return ExecState(is_running=said["Running"], pid=said["Pid"] or 0, code=said["ExitCode"])

    # Streams.

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Body | None = None,
        headers: Params | None = None,
    ) -> AsyncGenerator[httpx.Response]:
        """An answer whose body is yet to come; reading it has no deadline of its own."""
        request = httpx.Request(
            method,
            self._base + _path(path),
            params=params,
            json=body,
            headers=headers,
            extensions={"timeout": httpx.Timeout(None, connect=_CONNECT_SECONDS).as_dict()},
        )
        answer = await self._send(request)
        try:
            if answer.status_code >= 400:
                with self._reaching():
                    await answer.aread()
                raise _refusal(answer)
            yield answer
        finally:
            await answer.aclose()

    @asynccontextmanager
    async def hijack(self, path: str) -> AsyncGenerator[Hijacked]:
        """A connection that the engine hands over to a process of a container."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        body: Body = {"Detach": False, "Tty": False}
        async with self.stream("POST", path, body=body, headers=headers) as answer:
            yield Hijacked(answer.extensions["network_stream"])

    async def objects(self, answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        """The body of an answer that goes on: one JSON object after the other."""
        with self._reaching():
            async for line in answer.aiter_lines():
                if line.strip():
                    yield json.loads(line)

    async def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """The body of an answer that goes on, as it comes."""
        with self._reaching():
            async for piece in answer.aiter_raw():
                yield piece

    # What all of them need.

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Body | None = None,
        seconds: float = _CALL_SECONDS,
    ) -> httpx.Response:
        timeout = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
        request = httpx.Request(
            method,
            self._base + _path(path),
            params=params,
            json=body,
            extensions={"timeout": timeout.as_dict()},
        )
        answer = await self._send(request)
        try:
            with self._reaching():
                await answer.aread()
        finally:
            await answer.aclose()
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer

    async def _send(self, request: httpx.Request) -> httpx.Response:
        with self._reaching():
            return await self._transport.handle_async_request(request)

    @contextmanager
    def _reaching(self) -> Generator[None]:
        try:
            yield
        except httpx.TimeoutException as exc:
            raise EngineUnavailable(f"Podman at {self.address} takes too long to answer") from exc
        except (httpx.TransportError, json.JSONDecodeError) as exc:
            hint = "is its service running? (systemctl start podman.socket)"
            raise EngineUnavailable(f"no Podman at {self.address}: {exc}; {hint}") from exc


@asynccontextmanager
async def open_engine(address: Address) -> AsyncGenerator[Engine]:
    """A client for the service at an address. Connects when it is used."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=_IDLE_CONNECTIONS)
    uds = address.path if isinstance(address, UnixAddress) else None
    # Not a client: what that adds is for the world outside, and it logs each request.
    async with httpx.AsyncHTTPTransport(uds=uds, limits=limits) as transport:
        yield Engine(transport, address)


def _refusal(answer: httpx.Response) -> Refusal:
    try:
        said = answer.json()
        cause, message = str(said.get("cause", "")), str(said.get("message", ""))
    except ValueError:
        cause, message = "", answer.text[:500]
    return Refusal(answer.status_code, cause, message or f"HTTP {answer.status_code}")


def _quoted(reference: str) -> str:
    return quote(reference, safe="/:@")


def _path(path: str) -> str:
    """A path of Podman's own API, unless it names the version of the one shared with Docker."""
    return path if path.startswith("/v1.") else _API + path
