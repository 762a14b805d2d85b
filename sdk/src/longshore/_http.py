"""The two carriers, and the only module that knows httpx and what is beneath it.

Each has a client for plain HTTP and, once it is asked for, one for TLS: reading the certificates
takes longer than all the rest of a sandbox's life.
"""

from __future__ import annotations

import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from math import inf
from threading import Lock
from time import sleep
from typing import Any, Final, cast

import anyio
import anyio.to_thread
import httpcore
import httpx

from longshore._carrier import CarryError, Request, Source, T, Work, finish
from longshore._deadline import remaining
from longshore._sources import AsyncPieces, BlockingPieces, pieces
from longshore._wires import (
    CONNECT_SECONDS,
    AsyncWire,
    BlockingWire,
    Target,
    dial_async,
    dial_blocking,
)

_CLOSE_SECONDS: Final = 1.0
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)


@cache
def _context(tls: bool) -> ssl.SSLContext:
    # Without certificates, a context is made at once, and trusts nobody.
    return httpx.create_ssl_context() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _no_jar() -> CookieJar:
    """Keeps nothing: what a sandbox sets must not come back, least of all to the server."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def _timeout(request: Request) -> httpx.Timeout:
    return httpx.Timeout(request.silence_seconds, connect=CONNECT_SECONDS)


class _Bounded(httpcore.NetworkStream):
    """Keeps the deadline of whoever waits: httpx's own waits last as long as when it began."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _in_time(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _in_time(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, _in_time(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.NetworkStream:
        return _Bounded(super().connect_tcp(host, port, _in_time(timeout), *args, **kwargs))


class _Transport(httpx.HTTPTransport):
    """httpx's, over streams of ours."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, limits=_LIMITS)
        # It takes no backend from its caller.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=_LIMITS.max_connections,
            max_keepalive_connections=_LIMITS.max_keepalive_connections,
            keepalive_expiry=_LIMITS.keepalive_expiry,
            network_backend=_Backend(),
        )


def _in_time(timeout: float | None) -> float:
    return max(0.001, min(inf if timeout is None else timeout, remaining()))


def _in_time_pieces(source: Source) -> Generator[bytes]:
    """Raises CarryError: an upload is no longer waited for than anything else."""
    for piece in pieces(source):
        if not remaining():
            raise CarryError("it took too long", silent=True)
        yield piece


@asynccontextmanager
async def _in_time_async() -> AsyncGenerator[None]:
    """Raises CarryError."""
    with anyio.move_on_after(remaining()) as scope:
        yield
    if scope.cancelled_caught:
        raise CarryError("it took too long", silent=True)


@contextmanager
def _mapped() -> Generator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
        raise CarryError(f"cannot connect: {str(exc) or 'no answer'}", sent=False) from exc
    except httpx.TimeoutException as exc:
        raise CarryError("nothing came for too long", silent=True) from exc
    except httpx.TransportError as exc:
        raise CarryError(f"the connection was cut: {str(exc) or type(exc).__name__}") from exc


def _check_url(url: str) -> bool:
    """Whether it wants TLS. Raises CarryError for one that is none."""
    return _parsed(url).scheme == "https"


def _target(url: str) -> Target:
    parsed = _parsed(url)
    tls = parsed.scheme == "https"
    return Target(
        host=parsed.host,
        port=parsed.port or (443 if tls else 80),
        context=_context(tls=True) if tls else None,
    )


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise CarryError(f"{url!r} is no URL: {exc}", sent=False) from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise CarryError(f"{url!r} is no URL of HTTP", sent=False)
    return parsed


def _first(error: BaseException) -> BaseException:
    """What has happened first, of what has happened at once."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


class _Answer:
    """The head of an answer, whoever reads its body."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers


class _BlockingStream(_Answer):
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response)
        self._pieces = response.iter_raw()

    async def read(self) -> bytes:
        with _mapped():
            return next(self._pieces, b"")

    async def close(self) -> None:
        with suppress(CarryError), _mapped():
            self._response.close()


class BlockingCarrier:
    """By blocking. Threads may share it."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._transport = transport
        self._clients: dict[bool, httpx.Client] = {}
        self._making = Lock()
        self._closed = False

    async def open(self, request: Request) -> _BlockingStream:
        client = self._client(_check_url(request.url))
        body = request.body
        content = body if body is None or isinstance(body, bytes) else _in_time_pieces(body)
        built = client.build_request(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=content,
            timeout=_timeout(request),
        )
        with _mapped():
            return _BlockingStream(client.send(built, stream=True))

    async def dial(self, url: str) -> BlockingWire:
        return dial_blocking(_target(url))

    async def sleep(self, seconds: float) -> None:
        sleep(seconds)  # noqa: ASYNC251  # this is the one that blocks

    async def call(self, function: Callable[[], T]) -> T:
        return function()

    def pieces(self, source: Source) -> BlockingPieces:
        return BlockingPieces(source)

    async def both(
        self, main: Work[None], beside: Work[T], stop: Callable[[BaseException], Awaitable[None]]
    ) -> T:
        # What is beside is in the thread: it waits for nobody but the sandbox, where it is stopped.
        with ThreadPoolExecutor(1, "longshore") as pool:
            found = pool.submit(copy_context().run, lambda: finish(beside()))
            try:
                await main()
                return found.result()
            except BaseException as exc:
                await stop(exc)
                raise

    async def finally_do(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        del seconds  # What it awaits has deadlines of its own, and nobody can cancel us.
        await work

    async def close(self) -> None:
        self._closed = True
        while self._clients:
            self._clients.popitem()[1].close()

    def _client(self, tls: bool) -> httpx.Client:
        if self._closed:
            raise CarryError("it has been closed here", sent=False)
        with self._making:
            if tls not in self._clients:
                # A transport of ours: one of httpx's own goes by way of HTTP_PROXY.
                transport = self._transport or _Transport(_context(tls))
                self._clients[tls] = httpx.Client(cookies=_no_jar(), transport=transport)
            return self._clients[tls]


class _AsyncStream(_Answer):
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response)
        self._pieces = response.aiter_raw()

    async def read(self) -> bytes:
        with _mapped():
            async with _in_time_async():
                return await anext(self._pieces, b"")
        raise AssertionError("it has either a piece or an error")

    async def close(self) -> None:
        with suppress(CarryError), _mapped(), anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await self._leave()
            await self._response.aclose()

    async def _leave(self) -> None:
        """End the generators that httpx reads by, one within the other.

        Closing the outermost leaves the others to be collected, which trio complains of. A
        cancelled wait of the innermost ends them all.
        """
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in self._pieces:
                continue


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, source: Source) -> None:
        self._pieces = AsyncPieces(source)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if piece := await self._pieces.next():
            return piece
        raise StopAsyncIteration


class AsyncCarrier:
    """By the event loop of anyio's that it is used in: asyncio's or trio's."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._closed = False

    async def open(self, request: Request) -> _AsyncStream:
        client = self._client(_check_url(request.url))
        body = request.body
        content = body if body is None or isinstance(body, bytes) else _AsyncBody(body)
        built = client.build_request(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=content,
            timeout=_timeout(request),
        )
        if isinstance(content, _AsyncBody):
            # Not by a generator of httpx's: trio complains of one that a failed upload leaves.
            built.stream = content
        with _mapped():
            async with _in_time_async():
                return _AsyncStream(await client.send(built, stream=True))
        raise AssertionError("it has either an answer or an error")

    async def dial(self, url: str) -> AsyncWire:
        return await dial_async(_target(url))

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def call(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function)

    def pieces(self, source: Source) -> AsyncPieces:
        return AsyncPieces(source)

    async def both(
        self, main: Work[None], beside: Work[T], stop: Callable[[BaseException], Awaitable[None]]
    ) -> T:
        del stop  # It can be cancelled instead.
        found = list[T]()

        async def keep() -> None:
            found.append(await beside())

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep)
                await main()
        except BaseExceptionGroup as exc:
            error = _first(exc)
            raise error from error.__cause__
        return found[0]

    async def finally_do(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        with anyio.move_on_after(seconds, shield=True):
            await work

    async def close(self) -> None:
        self._closed = True
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            while self._clients:
                await self._clients.popitem()[1].aclose()

    def _client(self, tls: bool) -> httpx.AsyncClient:
        if self._closed:
            raise CarryError("it has been closed here", sent=False)
        if tls not in self._clients:
            # As above.
            transport = self._transport or httpx.AsyncHTTPTransport(
                verify=_context(tls), limits=_LIMITS
            )
            self._clients[tls] = httpx.AsyncClient(cookies=_no_jar(), transport=transport)
        return self._clients[tls]
