"""What clients of the field may ask for and this server does not offer.

Clients take a 404 for a missing sandbox; 501 says what it is.
"""

from __future__ import annotations

from typing import Final, NoReturn

from fastapi import APIRouter
from longshore_core import RequestError

_SANDBOX: Final = "/sandboxes/{sandbox_id}"
_UNOFFERED: Final = (
    (("POST",), f"{_SANDBOX}/snapshot", "snapshots"),
    (("GET", "POST"), f"{_SANDBOX}/snapshots", "snapshots"),
    (("POST",), f"{_SANDBOX}/suspend", "suspending a sandbox"),
    (("POST",), f"{_SANDBOX}/resume", "suspending a sandbox"),
    (("POST",), f"{_SANDBOX}/copy", "copying a sandbox"),
    (("POST", "DELETE"), f"{_SANDBOX}/file_systems", "file systems"),
    (("GET",), f"{_SANDBOX}/logs", "logs of sandboxes"),
    (("GET",), "/archived-sandboxes", "archived sandboxes"),
    (("GET",), "/archived-sandboxes/{sandbox_id}", "archived sandboxes"),
    (("GET",), "/snapshots", "snapshots"),
    (("GET", "DELETE"), "/snapshots/{snapshot_id}", "snapshots"),
    (("GET", "POST"), "/sandbox-pools", "pools"),
    (("GET", "PUT", "DELETE"), "/sandbox-pools/{pool_id}", "pools"),
    (("POST",), "/sandbox-pools/{pool_id}/sandboxes", "pools"),
)


def routes() -> APIRouter:
    """Routes that all answer 501 UNSUPPORTED_CAPABILITY, with what is not offered."""
    router = APIRouter(include_in_schema=False)
    for methods, path, what in _UNOFFERED:
        router.add_api_route(path, _Refusal(what), methods=list(methods), response_model=None)
    return router


def invocation() -> APIRouter:
    """The same for running functions, which has no flat form."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route(
        "/{application}", _Refusal("invoking functions"), methods=["POST"], response_model=None
    )
    return router


class _Refusal:
    def __init__(self, what: str) -> None:
        self._what = what

    async def __call__(self) -> NoReturn:
        raise RequestError(
            501, "UNSUPPORTED_CAPABILITY", f"this server does not offer {self._what}"
        )
