"""The HTTP API for users: connections, authentication, routes."""

from __future__ import annotations

from time import monotonic

from longshore_daemon.inside.areas import Areas
from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.file_routes import FileRoutes
from longshore_daemon.inside.follow_routes import FollowRoutes
from longshore_daemon.inside.frame_routes import FrameRoutes
from longshore_daemon.inside.http import HEAD_LIMIT, BadRequest, Head, parse_head, unquote
from longshore_daemon.inside.origins import refuse_pages
from longshore_daemon.inside.output_routes import OutputRoutes
from longshore_daemon.inside.paths import Paths
from longshore_daemon.inside.process_routes import ProcessRoutes
from longshore_daemon.inside.sandbox import VERSION, Sandbox
from longshore_daemon.inside.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Route = tuple[str, str, Callable[..., Awaitable[None]]]

_PREFIX = "/api/v1/"
_SAFE = ("GET", "HEAD", "OPTIONS")
"""These change nothing, and pages cannot see the answer."""
_IDLE_SECONDS = 600.0
"""How long a connection may rest between two requests."""
_HEAD_SECONDS = 30.0
_LINGER_SECONDS = 2.0


class Server:
    """Serves connections, one task each."""

    def __init__(self, sandbox: Sandbox, paths: Paths) -> None:
        self._sandbox = sandbox
        self._areas = Areas(sandbox.processes, paths)
        files = FileRoutes(paths)
        processes = ProcessRoutes(sandbox.processes)
        output, follow = OutputRoutes(sandbox.processes), FollowRoutes(sandbox.processes)
        frames = FrameRoutes(sandbox.processes)
        self.own_routes: tuple[Route, ...] = (
            ("GET", "health", _answer_health),
            ("HEAD", "health", _answer_health),
            ("GET", "info", self._answer_info),
            ("POST", "processes/run", follow.run),
            ("POST", "processes/frames", frames.run),
            ("POST", "processes", processes.create),
            ("GET", "processes", processes.show_all),
            ("GET", "processes/*", processes.show),
            ("DELETE", "processes/*", processes.delete),
            ("POST", "processes/*/signal", processes.send_signal),
            ("POST", "processes/*/restart", processes.restart),
            ("POST", "processes/*/stdin", processes.write_stdin),
            ("POST", "processes/*/stdin/close", processes.close_stdin),
            ("GET", "processes/*/frames", frames.follow),
            ("GET", "processes/*/*", output.read),
            ("GET", "processes/*/*/follow", follow.follow),
            ("GET", "files", files.read),
            ("HEAD", "files", files.read),
            ("PUT", "files", files.write),
            ("GET", "files/list", files.show_directory),
        )

    async def serve(self, stream: Stream) -> None:
        """Answer requests, one after the other, until one side has enough."""
        keep_alive = True
        while keep_alive:
            exchange = None
            try:
                exchange = Exchange(stream, parse_head(await _receive_head(stream)))
                await self._answer(exchange)
                keep_alive = exchange.head.keep_alive and await exchange.finish_request()
            except BadRequest as exc:
                exchange = exchange or Exchange(stream, Head("GET", "/", {}))
                keep_alive = exchange.head.keep_alive = False
                await exchange.answer_error(exc)
        await stream.linger(_LINGER_SECONDS)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            self._authenticate(exchange.head)
            if exchange.head.method not in _SAFE:
                refuse_pages(exchange.head.headers)
            route, captured = self._find(exchange.head)
            await route(exchange, *captured)
        except ApiError as exc:
            await exchange.answer_error(exc)
        except OSError as exc:
            await exchange.answer_error(ApiError(500, "INTERNAL_ERROR", str(exc)))

    def _authenticate(self, head: Head) -> None:
        if head.path == f"{_PREFIX}health":
            return
        if self._sandbox.held:
            raise ApiError(503, "NOT_RELEASED", "the sandbox is not released yet", retryable=True)
        if not self._sandbox.has_token(head.headers.get("longshore-sandbox-token", "")):
            message = "the header Longshore-Sandbox-Token is missing or wrong"
            raise ApiError(401, "UNAUTHENTICATED", message)

    def _find(self, head: Head) -> tuple[Callable[..., Awaitable[None]], list[str]]:
        """Raises ApiError 404 or 405."""
        allowed: list[str] = []
        if head.path.startswith(_PREFIX):
            path = head.path[len(_PREFIX) :]
            for route_method, pattern, route in self._candidates(path):
                captured = _match(pattern, path)
                if captured is not None:
                    if route_method == head.method:
                        return route, captured
                    allowed.append(route_method)
        if allowed:
            message = f"{head.method} is not for {head.path}"
            headers = (("Allow", ", ".join(allowed)),)
            raise ApiError(405, "METHOD_NOT_ALLOWED", message, headers=headers)
        raise ApiError(404, "NOT_FOUND", f"there is nothing at {head.path}")

    def _candidates(self, path: str) -> Iterator[Route]:
        yield from self.own_routes
        yield from self._areas.routes(path)

    async def _answer_info(self, exchange: Exchange) -> None:
        processes = self._sandbox.processes.all()
        await exchange.answer(200, {
            "version": VERSION,
            "uptime_secs": int(self._sandbox.uptime_seconds),
            "running_processes": sum(process.running for process in processes),
            "total_processes": len(processes),
        })  # fmt: skip


_HEEDED = ("Longshore-Heeds", "Idempotency-Key, Longshore-Partial-Input")
"""Headers by which clients ask for more than the wire has; another daemon ignores them."""


async def _answer_health(exchange: Exchange) -> None:
    await exchange.answer(200, {"healthy": True}, _HEEDED)


def _match(pattern: str, path: str) -> list[str] | None:
    """What stands where the pattern has `*`; `None` when the path is another."""
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    captured: list[str] = []
    for part, piece in zip(wanted, given, strict=True):
        if part == "*":
            captured.append(unquote(piece))
        elif part != piece:
            return None
    return captured


async def _receive_head(stream: Stream) -> bytes:
    """Up to the empty line. Raises BadRequest 431 when it does not come soon enough."""
    data = b""
    seconds = _IDLE_SECONDS
    deadline = monotonic() + _IDLE_SECONDS + _HEAD_SECONDS
    while True:
        piece = await stream.receive(min(seconds, deadline - monotonic()))
        if not data:
            # Some clients end a body with an empty line that belongs to nothing.
            piece = piece.lstrip(b"\r\n")
            deadline = monotonic() + _HEAD_SECONDS
        data += piece
        head, end, rest = data.partition(b"\r\n\r\n")
        if len(head) > HEAD_LIMIT:
            message = f"the head is longer than {HEAD_LIMIT} bytes"
            raise BadRequest(message, 431, "HEAD_TOO_LARGE")
        if end:
            if rest:
                stream.put_back(rest)
            return head
