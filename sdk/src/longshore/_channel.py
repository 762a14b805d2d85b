"""A WebSocket of the daemon's: opened with little patience, and explained when it breaks."""

from __future__ import annotations

from collections.abc import Mapping

from longshore._answers import Answer
from longshore._calls import Call, Failure, Patience, new_request_id, own_headers
from longshore._carrier import CarryError
from longshore._deadline import check_deadline
from longshore._line import Ask, Line
from longshore._websocket import Closed, WebSocket

_SWITCHING: int = 101


class Channel:
    """Messages both ways. One task or thread may receive while others send."""

    def __init__(self, line: Line, ask: Ask) -> None:
        self._line = line
        self._ask = ask
        self._call: Call | None = None
        self._request_id = ""
        self._socket: WebSocket | None = None

    async def open(self) -> None:
        """Raises SandboxError."""
        self._call = await self._line.call(self._ask)
        self._socket = await self._line.caller.repeat(self._call, self._connect, Patience())

    async def _connect(self, call: Call) -> WebSocket:
        caller, self._request_id = self._line.caller, new_request_id()
        try:
            wire = await self._line.carrier.dial(call.url)
        except CarryError as exc:
            raise caller.failure(call, self._request_id, exc) from exc
        socket = WebSocket(wire, call.url)
        try:
            headers: Mapping[str, str] = {**own_headers(self._request_id), **call.headers}
            shaken = await socket.shake_hands(headers)
            if shaken.status == _SWITCHING:
                return socket
        except CarryError as exc:
            await socket.close()
            raise caller.failure(call, self._request_id, exc) from exc
        except BaseException:
            await socket.close()
            raise
        await socket.close()
        answer = Answer(
            status=shaken.status,
            headers=shaken.headers,
            body=shaken.body,
            request_id=self._request_id,
            sandbox_id=self._line.sandbox_id,
            phase=call.phase,
        )
        raise caller.refused(answer)

    @property
    def closed(self) -> Closed | None:
        """How the other side has closed it, once that is known."""
        return None if self._socket is None else self._socket.closed

    async def receive(self) -> bytes | None:
        """The next message; `None` when the other side has closed it. Raises SandboxError."""
        try:
            check_deadline(self._ask.phase, self._line.sandbox_id)
            return await self._opened().receive()
        except CarryError as exc:
            raise await self._explained(exc) from exc

    async def send(self, data: bytes) -> None:
        """Raises SandboxError."""
        try:
            check_deadline(self._ask.phase, self._line.sandbox_id)
            await self._opened().send(data)
        except CarryError as exc:
            raise await self._explained(exc) from exc

    async def say_goodbye(self) -> None:
        """Nothing more will be sent; what was still arrives. Raises SandboxError."""
        try:
            await self._opened().say_goodbye()
        except CarryError as exc:
            raise await self._explained(exc) from exc

    async def close(self) -> None:
        """Hang up. Idempotent."""
        if self._socket is not None:
            await self._socket.close()

    def _opened(self) -> WebSocket:
        assert self._socket is not None
        return self._socket

    async def _explained(self, exc: CarryError) -> Exception:
        assert self._call is not None
        failure: Failure = self._line.caller.failure(self._call, self._request_id, exc)
        failure.__cause__ = failure.error.__cause__ = exc
        await self._line.explain(failure, Patience())
        # It stays broken; and of what was sent, nobody knows how much has been acted on.
        failure.error.retryable = False
        return failure.error
