"""Where to listen: `host:port`, and what to say when it cannot be had."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from longshore_core import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """An address from `host:port` or `[host]:port`. Raises ValueError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    return Address(host, int(port))


def listen(address: Address, key: str) -> socket.socket:
    """A socket that listens there. Raises ConfigError, blaming `key`, when it cannot."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.create_server((address.host, address.port), family=family, backlog=2048)
    except OSError as exc:
        raise ConfigError(key, _complaint(address, exc)) from exc
    # Connections inherit it. Event loops set it only for sockets that say that they are of TCP,
    # and without it the second half of each answer waits 40 ms for the caller's delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def bound(sock: socket.socket) -> Address:
    """Where a socket listens in fact."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def _complaint(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{address} is already in use; stop the other process or choose another port"
    return f"cannot listen on {address}: {error.strerror}"
