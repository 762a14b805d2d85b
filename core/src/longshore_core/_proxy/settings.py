"""What an operator can set about the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from longshore_core._heads import Layer
from longshore_core._proxy.routing import DOMAINS


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each wait may be."""

    connect_seconds: float = 10
    read_seconds: float = 60
    """For the head of a response, and between two pieces of its body. A stream of events
    (`text/event-stream`) and an upgraded connection may be silent for as long as they like."""
    write_seconds: float = 60
    """Without a byte accepted, by the sandbox or by the client."""
    body_seconds: float = 60
    """Between two pieces of a request's body, until the response begins."""
    head_seconds: float = 30
    """For the whole head of a request."""
    keep_alive_seconds: float = 75
    """Between two requests of a client."""
    upstream_idle_seconds: float = 55
    """For a connection to a sandbox that is kept for the next request."""
    linger_seconds: float = 1
    """For a client to take an answer that was given before it had sent all of its request.

    Clients that look up only when they have sent all are to learn of it within two seconds."""
    drain_seconds: float = 30
    """For requests in progress when the proxy is told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """TCP's own probes, for peers that vanish without a word."""

    idle_seconds: int = 30
    interval_seconds: int = 10
    count: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """All that `serve_proxy` needs to know."""

    state_dir: Path
    """The worker's: its `routes.sock` is followed, and `proxy.lock` in it is held."""
    listen_addr: str = "0.0.0.0"
    """An address or a name. `::` serves IPv4 too."""
    port: int = 8095
    """0: one that is free."""
    extra_ports: tuple[int, ...] = ()
    """Listened on as well: for clients that have a port of their own built in."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    keepalive: KeepAlive = field(default_factory=KeepAlive)
    middlewares: Sequence[Layer] = ()
    """The first is outermost."""
    domains: tuple[str, ...] = DOMAINS
    """Under which `{id}.domain` and `{port}-{id}.domain` name sandboxes; `*.` for any label."""
    head_bytes: int = 65536
    """The largest head of a request or a response."""
    idle_upstreams: int = 128
    """The most connections to sandboxes that are kept for later."""
