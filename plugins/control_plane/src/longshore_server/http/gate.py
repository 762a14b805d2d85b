"""What every request passes, whatever becomes of it: an id, a limit on its body, a log line."""

from __future__ import annotations

import re
import time
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longshore_server.identity import new_id

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("longshore_server.http")
_SANE_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
BODY_BYTES: Final = 2 * 1024 * 1024
DEPLOY_BYTES: Final = 6 * 1024 * 1024


class Gate:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        limit = _limit(scope)
        length = headers.get("content-length", "")
        declared = int(length) if length.isascii() and length.isdigit() else 0
        received, status, started = 0, 0, time.perf_counter()

        async def limited_receive() -> Message:
            nonlocal received
            if declared > limit:
                raise _too_large(limit)
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        async def marked_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, limited_receive, marked_send)
        finally:
            (_log.warning if status >= 500 else _log.debug)(
                "http_request",
                request_id=request_id,
                method=scope["method"],
                path=scope["path"],
                status_code=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )


def _limit(scope: Scope) -> int:
    deploys = scope["method"] == "POST" and scope["path"].endswith("/applications")
    return DEPLOY_BYTES if deploys else BODY_BYTES


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than the {limit} bytes that this route takes")
