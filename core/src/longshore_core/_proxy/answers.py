"""The answers that the proxy gives itself: each a status, a stable code, and words for a person."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final

from longshore_core._errors import RequestError
from longshore_core._heads import ResponseHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is answered here. `event` is what the log calls it."""

    status: int
    code: str
    message: str
    retryable: bool = False
    event: str = "Request refused"
    severe: bool = False
    """An error for the operator's eyes, not just the caller's."""
    sandbox_id: str | None = None
    port: int | None = None

    def about(self, sandbox_id: str, port: int | None = None) -> Refusal:
        """The same, saying for the log which sandbox it is about."""
        return replace(self, sandbox_id=sandbox_id, port=port)

    def answer(self, request_id: str) -> ResponseHead:
        """The whole response: JSON, with its length."""
        body = {
            "error": self.message,
            "message": self.message,
            "code": self.code,
            "retryable": self.retryable,
            "request_id": request_id,
        }
        return ResponseHead.of(
            self.status,
            (b"Content-Type", b"application/json"),
            (b"X-Request-Id", request_id.encode("ascii", "replace")),
            body=json.dumps(body).encode(),
        )


def refusal_of(error: RequestError) -> Refusal:
    """What a malformed request is answered with."""
    return Refusal(
        status=error.status, code=error.code, message=str(error), retryable=error.retryable
    )


_UNREACHED: Final = "Failed to connect to container"

MISSING_SANDBOX_ID: Final = Refusal(
    status=400,
    code="MISSING_SANDBOX_ID",
    message="Missing Tensorlake-Sandbox-Id header",
    event="Missing Tensorlake-Sandbox-Id header",
)
CONTRADICTING_IDS: Final = Refusal(
    status=400,
    code="BAD_REQUEST",
    message="The headers that name the sandbox contradict each other, or name none",
)
INVALID_SANDBOX_PORT: Final = Refusal(
    status=400,
    code="INVALID_SANDBOX_PORT",
    message="The sandbox port must be one number from 1 to 65535",
)
PORT_NOT_ROUTABLE: Final = Refusal(
    status=403, code="PORT_NOT_ROUTABLE", message="Port 9500 of a sandbox is not routable"
)
SANDBOX_NOT_FOUND: Final = Refusal(
    status=404,
    code="SANDBOX_NOT_FOUND",
    message="Sandbox not found",
    event="Sandbox not found",
)
ROUTES_UNKNOWN: Final = Refusal(
    status=503,
    code="ROUTES_UNKNOWN",
    message="The proxy has not heard from its worker yet",
    retryable=True,
    event="Routes not known yet",
)
REQUEST_TIMEOUT: Final = Refusal(
    status=408, code="REQUEST_TIMEOUT", message="The request did not arrive in time"
)
HEAD_TOO_LARGE: Final = Refusal(
    status=431,
    code="HEADERS_TOO_LARGE",
    message="The request's head is larger than the proxy accepts",
)
CONNECTION_REFUSED: Final = Refusal(
    status=502,
    code="CONNECTION_REFUSED",
    message="Connection to sandbox refused. The sandbox may not be running.",
    retryable=True,
    event=_UNREACHED,
    severe=True,
)
CONNECTION_CLOSED: Final = Refusal(
    status=502,
    code="CONNECTION_CLOSED",
    message="Connection to sandbox closed unexpectedly. The sandbox may have terminated.",
    retryable=True,
    event="Request failed",
    severe=True,
)
PROXY_ERROR: Final = Refusal(
    status=502,
    code="PROXY_ERROR",
    message="Failed to proxy request to sandbox.",
    retryable=True,
    event="Proxy error",
    severe=True,
)
CONNECTION_TIMEOUT: Final = Refusal(
    status=504,
    code="CONNECTION_TIMEOUT",
    message="Connection to sandbox timed out. The sandbox may be overloaded or unresponsive.",
    retryable=True,
    event=_UNREACHED,
    severe=True,
)
READ_TIMEOUT: Final = Refusal(
    status=504,
    code="READ_TIMEOUT",
    message="Reading from sandbox timed out. The operation is taking longer than expected.",
    retryable=True,
    event="Request failed",
    severe=True,
)
WRITE_TIMEOUT: Final = Refusal(
    status=504,
    code="WRITE_TIMEOUT",
    message="Writing to sandbox timed out. The sandbox may be overloaded.",
    retryable=True,
    event="Request failed",
    severe=True,
)
MIDDLEWARE_FAILED: Final = Refusal(
    status=500,
    code="INTERNAL_ERROR",
    message="A middleware of the proxy failed",
    event="Middleware failed",
    severe=True,
)


def not_running(state: str) -> Refusal:
    """The sandbox is known, and is not in a state to answer."""
    return Refusal(
        status=503,
        code="SANDBOX_NOT_RUNNING",
        message=f"Sandbox not running (state: {state})",
        retryable=True,
        event="Sandbox not running",
    )
