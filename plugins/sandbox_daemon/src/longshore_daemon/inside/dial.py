"""Connections to ports on the loopback in here."""

from __future__ import annotations

import os
from _socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SO_ERROR,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    socket,
)
from time import monotonic

from longshore_daemon.inside.loop import WRITE, Wait

_SECONDS = 10.0
_LOOPBACKS = ((AF_INET, "127.0.0.1"), (AF_INET6, "::1"))


class DialError(Exception):
    """There is no connection. `code` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def dial(port: int) -> socket:
    """A TCP connection to a port. Raises DialError."""
    if not 0 < port < 65536:
        raise DialError("INVALID_PORT", f"there is no port {port}")
    deadline = monotonic() + _SECONDS
    reason = ""
    for family, address in _LOOPBACKS:
        try:
            return await _connect(family, address, port, deadline)
        except TimeoutError as exc:
            message = f"port {port} did not answer in {_SECONDS:.0f} s"
            raise DialError("CONNECTION_TIMEOUT", message) from exc
        except OSError as exc:
            reason = reason or exc.strerror or str(exc)
    raise DialError("CONNECTION_REFUSED", f"nothing listens on port {port}: {reason}")


async def _connect(family: int, address: str, port: int, deadline: float) -> socket:
    """Raises OSError, and of these TimeoutError for the deadline alone."""
    sock = socket(family, SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.connect((address, port))
        except BlockingIOError:
            if not await Wait((sock.fileno(), WRITE), deadline=deadline):
                raise TimeoutError("no answer") from None
        if error := sock.getsockopt(SOL_SOCKET, SO_ERROR):
            raise OSError(error, os.strerror(error))
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock
