"""Server, proxy and daemon as a test wants them: what each route answers, and what was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio.to_thread
import httpx
import longshore
from longshore import AsyncSandbox, Sandbox
from longshore._carrier import finish
from longshore._http import AsyncCarrier, BlockingCarrier
from longshore._session import Session

API, PROXY = "http://api.test:8900", "http://proxy.test:8095"
INFO = {
    "id": "sb",
    "namespace": "default",
    "status": "running",
    "image": "i",
    "created_at": 1,
    "timeout_secs": 600,
    "resources": {"cpus": 1, "memory_mb": 1, "disk_mb": 1},
    "sandbox_url": PROXY,
}
ENDED = {**INFO, "status": "terminated", "outcome": "Success(Timeout)", "sandbox_url": None}
KEY = "sk-very-secret"
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.RemoteProtocolError("incomplete chunked read")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def fresh(answer: httpx.Response) -> httpx.Response:
    """As it comes from the wire: not yet read."""
    if isinstance(answer.stream, Cut):
        return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)
    stream = httpx.ByteStream(answer.content)
    return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)


class World:
    """Server, proxy and daemon: what each route answers, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.info: dict[str, Any] = INFO
        self.routes: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer so, one after the other; the last one for ever."""
        self.routes[method, path] = list(answers)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answers = self.routes.get((request.method, request.url.path))
        if answers is None:
            if request.url.path == "/api/v1/health":
                return httpx.Response(200, json={"healthy": True})
            return httpx.Response(200, json=self.info)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, httpx.Response) else found(request)

    def carrier(self) -> BlockingCarrier:
        return BlockingCarrier(httpx.MockTransport(lambda request: fresh(self.answer(request))))

    def attach(self) -> Sandbox:
        endpoint = longshore.Endpoint(api_url=API, api_key=KEY)
        return Sandbox(finish(Session.attach(self.carrier(), "sb", endpoint)))

    async def attach_async(self) -> AsyncSandbox:
        async def answer(request: httpx.Request) -> httpx.Response:
            # Read as it comes, and answered in a thread: an answer may wait for another request.
            await request.aread()
            return fresh(
                await anyio.to_thread.run_sync(self.answer, request, abandon_on_cancel=True)
            )

        carrier = AsyncCarrier(httpx.MockTransport(answer))
        return AsyncSandbox(await Session.attach(carrier, "sb", longshore.Endpoint(api_url=API)))

    def create(self, **options: Any) -> Sandbox:
        options = {"api_url": API, "api_key": KEY, **options}
        return Sandbox(finish(Session.create(self.carrier(), None, options)))  # type: ignore[arg-type]

    def sent(self, method: str, path: str) -> list[httpx.Request]:
        return [one for one in self.asked if (one.method, one.url.path) == (method, path)]


CREATE = "/v1/namespaces/default/sandboxes"
ONE = f"{CREATE}/sb"
START = "/api/v1/processes"
STDIN = "/api/v1/processes/7/stdin"
RUN = "/api/v1/processes/frames"
FOLLOW = "/api/v1/processes/7/frames"


def frame(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(data).to_bytes(4) + data


def event(**members: Any) -> bytes:
    return frame(0, json.dumps(members).encode())


def complaint(http: int, code: str, *, retryable: bool = False, **more: Any) -> httpx.Response:
    body = {"error": "no", "message": "no", "code": code, "retryable": retryable}
    return httpx.Response(http, json={**body, "request_id": "r", **more})


STARTED = event(pid=7, started_at=1)
STARTED_WITH_INPUT = httpx.Response(
    201,
    json={
        "pid": 7,
        "status": "running",
        "stdin_writable": True,
        "command": "x",
        "args": [],
        "started_at": 1,
    },
)
ENDED_WELL = event(exit_code=0)
