"""What the connections of one proxy share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from longshore_core._heads import Layer, Outcome, RequestHead
from longshore_core._proxy.answers import Refusal
from longshore_core._proxy.layers import Ask, tell
from longshore_core._proxy.routing import Forward
from longshore_core._proxy.serve_upstream import Pool
from longshore_core._proxy.settings import ProxySettings

if TYPE_CHECKING:
    from longshore_core._proxy.serve_client import Client

CLIENT_CLOSED: Final = "CLIENT_CLOSED"
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


Spawn: TypeAlias = Callable[..., object]
"""Starts a task in the proxy's task group: an async function and its arguments."""


@dataclass(slots=True, kw_only=True)
class Context:
    """One for all connections; only `draining` and `drained` ever change."""

    settings: ProxySettings
    layers: tuple[Layer, ...]
    asks: tuple[Ask, ...]
    """By how many of the layers, from the outermost on, are asked."""
    pool: Pool
    spawn: Spawn
    now: Callable[[], float]
    log: Any
    boot: str
    """Random: request ids of two runs of the proxy never meet."""
    clients: set[Client] = field(default_factory=set["Client"])
    drained: anyio.Event | None = None
    """Present while the proxy stops: set when the last client has gone."""
    admits: bool = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.admits = any(layer.admit is not None for layer in self.layers)

    @property
    def draining(self) -> bool:
        return self.drained is not None

    def identify(self, head: RequestHead) -> tuple[str, RequestHead]:
        """The request's id, and the head that carries it: the client's own when it is sane."""
        given = head.get_all(b"x-request-id")
        if len(given) == 1 and _SANE_ID.fullmatch(given[0]) is not None:
            return given[0].decode(), head
        request_id = self.new_id()
        return request_id, head.with_((b"X-Request-Id", request_id.encode()))

    def new_id(self) -> str:
        self.count += 1
        return f"{self.boot}-{self.count:x}"

    def gone(self, client: Client) -> None:
        self.clients.discard(client)
        if self.drained is not None and not self.clients:
            self.drained.set()

    def routing(self, forward: Forward, request_id: str) -> None:
        self.log.debug(
            "Routing request to container",
            sandbox_id=forward.sandbox_id,
            port=forward.port,
            method=forward.head.method.decode(),
            path=forward.head.path[:1024].decode(),
            container_addr=forward.address,
            request_id=request_id,
        )

    def blame(self, error: Exception, request_id: str) -> None:
        """Tell the operator whose middleware broke, with where."""
        self.log.error("Middleware failed", error=str(error), request_id=request_id, exc_info=error)

    def ended(self, outcome: Outcome, refusal: Refusal | None, address: str | None) -> None:
        """Log how a request ended, and tell the layers. Once for each request."""
        for crash in tell(self.layers, outcome):
            self.blame(crash, outcome.request_id)
        fields: dict[str, object] = {
            "span": "proxy_request",
            "sandbox_id": outcome.sandbox_id,
            "port": outcome.port,
            "method": outcome.method,
            "path": outcome.path,
            "status_code": outcome.status,
            "duration_ms": round(outcome.duration_seconds * 1000, 1),
            "container_addr": address,
            "request_id": outcome.request_id,
        }
        if refusal is not None:
            say = self.log.error if refusal.severe else self.log.warning
            say(refusal.event, code=refusal.code, reason=refusal.message, **fields)
        elif outcome.error == CLIENT_CLOSED:
            self.log.info("Client went away", **fields)
        elif outcome.status >= 500:
            self.log.error("Upstream server error", **fields)
        elif outcome.status >= 400:
            self.log.warning("Client error", **fields)
        else:
            self.log.info("Request completed", **fields)
