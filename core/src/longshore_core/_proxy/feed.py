"""Follows the worker's routes, for as long as the proxy lives.

While the worker is away, the last table stands. Nothing here touches a request in progress.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import SocketStream

from longshore_core._proxy.table import FeedBroken, FeedReader, RouteTable

SOCKET: Final = "routes.sock"
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.1
_LINE_LIMIT: Final = 64 << 20


async def follow_routes(state_dir: Path, table: RouteTable, log: Any) -> None:
    """Keep `table` as the worker tells it; runs until cancelled."""
    pause, reported = _FIRST_PAUSE_SECONDS, ""
    while True:
        reader = FeedReader(table)
        try:
            async with _connected(state_dir) as stream:
                await _follow(stream, reader)
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, FeedBroken) as exc:
            reason = str(exc) or type(exc).__name__
        else:
            reason = "the worker hung up"
        if reader.followed:
            pause = _FIRST_PAUSE_SECONDS
        if reader.followed:
            log.warning("Route feed lost", reason=reason, routes=len(table))
        elif reason != reported:
            log.info("Waiting for the worker's routes", reason=reason, routes=len(table))
        reported = reason
        await anyio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


@contextlib.asynccontextmanager
async def _connected(state_dir: Path) -> AsyncGenerator[SocketStream, None]:
    # Through a descriptor: the path of a Unix socket may have 107 bytes, a state directory more.
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        stream = await anyio.connect_unix(f"/proc/self/fd/{directory}/{SOCKET}")
    finally:
        os.close(directory)
    async with stream:
        yield stream


async def _follow(stream: SocketStream, reader: FeedReader) -> None:
    received = bytearray()
    while True:
        # No deadline: a worker without news has nothing to say.
        data = await stream.receive()
        received += data
        if len(received) > _LINE_LIMIT:
            raise FeedBroken("a line of the route feed is too long")
        if b"\n" not in data:
            continue
        *lines, rest = received.split(b"\n")
        for line in lines:
            seq = reader.apply(bytes(line))
            await stream.send(json.dumps({"ack": seq}).encode() + b"\n")
        received = rest
