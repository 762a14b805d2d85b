"""Every error as the one body that callers of Longshore know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from longshore_core import LongshoreError, RequestError
from longshore_core.process.answers import ErrorBody, answer_for, describe, error_body
from starlette.exceptions import HTTPException

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("longshore_server.http")
_CODES: Final = {
    404: "ROUTE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "BODY_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}
_BODY_UNREADABLE: Final = "There was an error parsing the body"


class SandboxError(RequestError):
    """An error about one sandbox: the body names it, and its status, in fields of their own."""

    def __init__(self, code: str, message: str, sandbox_id: str, status_word: str) -> None:
        known = describe(code)
        super().__init__(known.status, code, message, retryable=known.retryable)
        self.sandbox_id = sandbox_id
        self.status_word = status_word


def install(app: FastAPI) -> None:
    """Make the application answer every error in our shape."""
    app.add_exception_handler(LongshoreError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)


def request_id_of(request: Request) -> str:
    """The id that the gate gave the request."""
    return str(request.scope["state"]["request_id"])


def unsupported_media_type(wanted: str, request: Request) -> RequestError:
    """The route wants another Content-Type."""
    given = request.headers.get("content-type", "none")
    return RequestError(
        415, "UNSUPPORTED_MEDIA_TYPE", f"Content-Type must be {wanted}; it is {given}"
    )


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, LongshoreError)
    status, body = answer_for(error, request_id_of(request))
    if not isinstance(error, RequestError):
        _log.error("request_failed", request_id=request_id_of(request), exc_info=error)
    extra: dict[str, str] = {}
    if isinstance(error, SandboxError):
        extra = {"sandbox_id": error.sandbox_id, "status": error.status_word}
    return JSONResponse({**body, **extra}, status)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    complaints = cast("Sequence[Mapping[str, Any]]", error.errors())
    first = complaints[0]
    if first["type"] == "json_invalid":
        at, why = first["loc"][-1], first["ctx"]["error"]
        return _answer(request, "INVALID_JSON", f"the body is not JSON: {why} at character {at}")
    if isinstance(error.body, bytes) and tuple(first["loc"]) == ("body",):
        return await _ours(request, unsupported_media_type("application/json", request))
    message = "; ".join(f"{_dotted(one['loc'])}: {_text(one)}" for one in complaints)
    return _answer(request, "INVALID_REQUEST", message)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.detail == _BODY_UNREADABLE:
        return _answer(request, "INVALID_JSON", "the body is not JSON in UTF-8")
    code = _CODES.get(error.status_code, "BAD_REQUEST")
    message = {
        "ROUTE_NOT_FOUND": f"no such path: {request.url.path}",
        "METHOD_NOT_ALLOWED": f"{request.method} is not for {request.url.path}",
    }.get(code, error.detail)
    return _answer(request, code, message, dict(error.headers or {}))


async def _defect(request: Request, _error: Exception) -> Response:
    # Starlette raises it again once this is sent, and uvicorn logs it with its traceback.
    return _answer(request, "INTERNAL_ERROR", "the server has a defect; report the request id")


def _answer(
    request: Request, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    body: ErrorBody = error_body(code, message, request_id_of(request))
    return JSONResponse(body, describe(code).status, headers=headers)


def _dotted(loc: Sequence[int | str]) -> str:
    inside = loc[1:] if len(loc) > 1 and loc[0] == "body" else loc
    return ".".join(str(step) for step in inside)


def _text(complaint: Mapping[str, Any]) -> str:
    return str(complaint["msg"]).removeprefix("Value error, ")
