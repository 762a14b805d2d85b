"""uvicorn inside our own task group: it neither owns the process nor hears its signals."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio
import uvicorn
from starlette.types import ASGIApp

from longshore_server.http.protocol import Protocol

_GRACE_SECONDS: Final = 1


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Signals are the command's: uvicorn would take them, and raise them again at its end.
        yield


@asynccontextmanager
async def open_http(app: ASGIApp, sock: socket.socket) -> AsyncGenerator[None, None]:
    """Serve an application on a listening socket, which is closed with it.

    Leaving it, requests get a second to end.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, server, sock)
        try:
            await server.accepting.wait()
            yield
        finally:
            server.should_exit = True


async def _serve(server: uvicorn.Server, sock: socket.socket) -> None:
    # Cancelled, uvicorn would drop its requests; it ends when it is told to.
    with anyio.CancelScope(shield=True):
        await server.serve(sockets=[sock])
