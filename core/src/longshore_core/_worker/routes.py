"""Feeding the proxy: numbered changes of the route table, over a Unix socket in `state_dir`.

The worker speaks, every connected proxy acknowledges. `docs/protocols.md` has the protocol.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import structlog
from anyio.abc import SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from longshore_core._machine.life import Container, Running, Stopping, Terminated
from longshore_core._model import JSON, ContainerId, UnixReach
from longshore_core._worker import listening

SOCKET: Final = "routes.sock"
VERSION: Final = 1
ACK_SECONDS: Final = 1.0
SEND_SECONDS: Final = 10.0
BACKLOG: Final = 10_000
"""Changes that wait for a proxy that does not read; then it is cut off, and gets the table anew."""
_LINE_LIMIT: Final = 4096

log = structlog.stdlib.get_logger("longshore_core.routes")


@contextmanager
def _descriptor(directory: Path) -> Generator[Path]:
    """The directory by a short path, which is good within this process."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def route_of(container: Container) -> dict[str, JSON]:
    """How the proxy sees a container."""
    match container.life:
        case Running(attachment=attachment):
            status, reach = "running", attachment.reach
        case Stopping(attachment=attachment):
            status, reach = "stopping", attachment.reach
        case Terminated():
            status, reach = "terminated", None
        case life:
            status, reach = ("stopping" if life.tag == "removing" else "pending"), None
    return {
        "id": container.id,
        "sandbox_id": container.order.sandbox_id,
        "status": status,
        "dir": reach.path if isinstance(reach, UnixReach) else None,
        "token": container.token,
    }


class _Peer:
    """One connected proxy: what waits to be sent to it, and what it has acknowledged."""

    def __init__(self, acked: int) -> None:
        self.acked = acked
        self.late = False
        """It did not acknowledge in time once: nobody waits for it until it does."""
        self.lines: list[bytes] = []
        self.wake = anyio.Event()
        self.connection = anyio.CancelScope()

    def push(self, line: bytes) -> None:
        if len(self.lines) < BACKLOG:
            self.lines.append(line)
            self.wake.set()
        elif not self.connection.cancel_called:
            log.warning("Proxy does not read; hanging up", waiting=len(self.lines))
            self.connection.cancel()


class RouteFeed:
    """The table, its number, and the proxies that follow it."""

    def __init__(self, *, awaited: bool = False) -> None:
        """`awaited`: a proxy runs, or will in a moment; `settled` gives it time to connect."""
        self._awaited = awaited
        self._epoch = secrets.token_hex(8)
        self._seq = 0
        self._routes: dict[ContainerId, dict[str, JSON]] = {}
        self._peers: set[_Peer] = set()
        self._acked = anyio.Event()

    @property
    def followers(self) -> int:
        return len(self._peers)

    def put(self, container: Container) -> None:
        """Set a container's route."""
        route = route_of(container)
        if self._routes.get(container.id) != route:
            self._routes[container.id] = route
            self._change({"put": route})

    def drop(self, id_: ContainerId) -> None:
        """Take a container's route away."""
        if self._routes.pop(id_, None) is not None:
            self._change({"drop": id_})

    async def settled(self) -> None:
        """Wait until every connected proxy has applied all changes so far, or for a second."""
        target = self._seq
        with anyio.move_on_after(ACK_SECONDS):
            while self._awaited or self._behind(target):
                await self._acked.wait()
        self._awaited = False
        for peer in self._behind(target):
            log.warning("Proxy does not acknowledge its routes in time", acked=peer.acked)
            peer.late = True

    async def serve(
        self, state_dir: Path, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled. A socket left by an earlier worker is taken over."""
        # The path of a Unix socket may have 107 bytes, a state directory more.
        with _descriptor(state_dir) as here:
            # Bound under another name and moved, so that a proxy never finds it half-made.
            fresh = here / f".{SOCKET}.{os.getpid()}"
            fresh.unlink(missing_ok=True)
            async with await anyio.create_unix_listener(fresh, mode=0o600) as listener:
                fresh.replace(here / SOCKET)
                task_status.started()
                await listening.serve(listener, self._follow)

    def _behind(self, target: int) -> list[_Peer]:
        return [peer for peer in self._peers if peer.acked < target and not peer.late]

    def _change(self, change: dict[str, JSON]) -> None:
        self._seq += 1
        line = _line({"seq": self._seq, **change})
        for peer in self._peers:
            peer.push(line)

    async def _follow(self, stream: SocketStream) -> None:
        peer = _Peer(self._seq - 1)
        peer.push(
            _line(
                {
                    "v": VERSION,
                    "epoch": self._epoch,
                    "seq": self._seq,
                    "reset": list(self._routes.values()),
                }
            )
        )
        self._peers.add(peer)
        log.info("Proxy connected", followers=len(self._peers))
        try:
            with peer.connection:
                async with stream, anyio.create_task_group() as tasks:
                    tasks.start_soon(self._send, stream, peer)
                    await self._receive(stream, peer)
                    tasks.cancel_scope.cancel()
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError):
            log.debug("Proxy connection broke")
        finally:
            self._peers.discard(peer)
            self._notify()
            log.info("Proxy disconnected", followers=len(self._peers))

    async def _send(self, stream: SocketStream, peer: _Peer) -> None:
        while True:
            await peer.wake.wait()
            peer.wake = anyio.Event()
            lines, peer.lines = peer.lines, []
            with anyio.fail_after(SEND_SECONDS):
                await stream.send(b"".join(lines))

    async def _receive(self, stream: SocketStream, peer: _Peer) -> None:
        buffered = BufferedByteReceiveStream(stream)
        while True:
            try:
                line = await buffered.receive_until(b"\n", _LINE_LIMIT)
            except (anyio.EndOfStream, anyio.IncompleteRead):
                return
            except anyio.DelimiterNotFound:
                line = b""
            acked = _acked(line)
            if acked is None or acked > self._seq:
                log.warning("Proxy does not speak the route feed's protocol; hanging up")
                return
            peer.acked, peer.late = acked, False
            self._awaited = False
            self._notify()

    def _notify(self) -> None:
        self._acked.set()
        self._acked = anyio.Event()


def _acked(line: bytes) -> int | None:
    """The number that a line acknowledges; `None` for anything else."""
    try:
        match json.loads(line):
            case {"ack": int() as number}:
                return number
            case _:
                return None
    except (ValueError, RecursionError):
        return None


def _line(message: dict[str, JSON]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
