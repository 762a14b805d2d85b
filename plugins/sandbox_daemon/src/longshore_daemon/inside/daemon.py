"""Puts the parts together, and runs them until the sandbox ends."""

from __future__ import annotations

import os
import sys
from _socket import socket

from longshore_daemon.inside import descriptors
from longshore_daemon.inside.areas import serve_calls
from longshore_daemon.inside.control import Control
from longshore_daemon.inside.environment import (
    FILES_ROOT,
    GRPC,
    OUTPUT_LIMIT,
    OUTPUT_TOTAL,
    SOCKETS,
    for_output,
    for_users,
    number,
)
from longshore_daemon.inside.journal import note
from longshore_daemon.inside.jsontext import stand_in_for_json
from longshore_daemon.inside.loop import READ, Loop, Wait
from longshore_daemon.inside.paths import Paths
from longshore_daemon.inside.processes import KEPT_OF_EACH, Processes
from longshore_daemon.inside.sandbox import Sandbox
from longshore_daemon.inside.server import Server
from longshore_daemon.inside.signals import SIGCHLD, SIGINT, SIGTERM, open_signals
from longshore_daemon.inside.store import TOTAL, Store
from longshore_daemon.inside.stream import accept, listen, listen_tcp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_GRACE_SECONDS = 10.0
_HIGHEST_DESCRIPTOR = 65536


def main() -> None:
    """Run as PID 1, or as whatever process the driver has made of it."""
    _tidy_descriptors()
    stand_in_for_json()
    try:
        http, control, *grpc = _listen(os.environ)
        signals = open_signals(SIGCHLD, SIGTERM, SIGINT)
        loop = Loop()
        descriptors.allow_many()
        store = Store(for_output(os.environ), number(os.environ, OUTPUT_TOTAL, TOTAL))
        limit = number(os.environ, OUTPUT_LIMIT, KEPT_OF_EACH)
        processes = Processes(loop, for_users(os.environ), store, limit)
    except OSError as exc:
        note(f"cannot start: {exc}")
        sys.exit(1)
    sandbox = Sandbox(processes)
    loop.start(accept(loop, http, Server(sandbox, Paths(os.environ.get(FILES_ROOT, ""))).serve))
    loop.start(accept(loop, control, Control(sandbox).serve))
    for listener in grpc:
        loop.start(accept(loop, listener, lambda stream: serve_calls(sandbox, stream)))
    loop.start(_heed(signals, sandbox))
    loop.run(sandbox.wait_until_stopped())
    # There is nothing left that an orderly end of the interpreter would be good for.
    os._exit(0)


def _tidy_descriptors() -> None:
    """What the driver left open must not reach user processes; 0, 1 and 2 must not be ours."""
    while os.open("/", os.O_PATH) < 3:
        continue
    os.closerange(3, _HIGHEST_DESCRIPTOR)


def _listen(environ: Mapping[str, str]) -> list[socket]:
    """For HTTP, control, and gRPC, which may have a port as well.

    Bound from within their directory: its path may be too long for an address.
    """
    home = os.open(".", os.O_PATH | os.O_DIRECTORY)
    os.chdir(environ.get(SOCKETS, ""))
    try:
        listeners = [listen(f"{name}.sock") for name in ("http", "control", "grpc")]
    finally:
        os.fchdir(home)
        os.close(home)
    if address := environ.get(GRPC):
        try:
            listeners.append(listen_tcp(address))
        except OSError as exc:
            # Where sandboxes share an address, only one of them can have it.
            note(f"cannot listen at {address}, {GRPC}: {exc}")
    return listeners


async def _heed(signals: int, sandbox: Sandbox) -> None:
    while True:
        await Wait((signals, READ))
        arrived = os.read(signals, 4096)
        if SIGCHLD in arrived:
            sandbox.processes.reap()
        if SIGTERM in arrived or SIGINT in arrived:
            sandbox.ask_to_stop(_GRACE_SECONDS)
