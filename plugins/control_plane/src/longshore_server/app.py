"""The composition root: from settings to a server that answers."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import dataclass
from functools import partial

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED, to_thread
from anyio.abc import TaskStatus

from longshore_server import addresses
from longshore_server._wire import convert
from longshore_server._wire.serve import open_wire
from longshore_server.addresses import Address
from longshore_server.http.api import build
from longshore_server.http.listen import open_http
from longshore_server.http.services import Services
from longshore_server.plane import Timing, open_plane
from longshore_server.scheduler import World
from longshore_server.settings import ServerSettings
from longshore_server.store.database import Database, open_database

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("longshore_server")


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a server listens in fact."""

    http: Address
    grpc: Address


async def serve(
    settings: ServerSettings, *, task_status: TaskStatus[Bound] = TASK_STATUS_IGNORED
) -> None:
    """Run a server until cancelled; says where once both sides answer.

    Raises ConfigError before that when it cannot listen or use its store. Cancelled, it sends
    everybody away who waits, writes what it has taken in, and is gone within two seconds.
    """
    for key in settings.without_effect:
        _log.warning("config_key_without_effect", key=key)
    sock = addresses.listen(addresses.parse(settings.listen_addr), "listen_addr")
    try:
        database = await to_thread.run_sync(open_database, settings.state_store_path)
    except BaseException:
        sock.close()
        raise
    try:
        with sock:
            await _serve(settings, database, sock, task_status)
    finally:
        database.close()


async def _serve(
    settings: ServerSettings, database: Database, sock: socket.socket, started: TaskStatus[Bound]
) -> None:
    world = World(
        now_ms=lambda: time.time_ns() // 1_000_000,
        seed=partial(random.Random().getrandbits, 32),
        encode=convert.encode,
    )
    timing = Timing(
        executor_timeout=settings.executor_timeout_secs,
        startup_sweep=settings.startup_sweep_secs,
        long_poll=settings.long_poll_secs,
        vacuum_interval=settings.cluster_vacuum_interval_secs,
    )
    for_executors = addresses.parse(settings.listen_addr_grpc)
    async with open_plane(database, world, timing) as plane:
        api = build(Services(plane=plane, settings=settings))
        async with open_wire(plane, for_executors, settings.tls) as grpc, open_http(api, sock):
            try:
                bound = Bound(http=addresses.bound(sock), grpc=grpc)
                _log.info("Server is ready", http=str(bound.http), grpc=str(bound.grpc))
                started.started(bound)
                await anyio.sleep_forever()
            finally:
                plane.stop()
