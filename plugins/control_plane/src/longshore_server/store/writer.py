"""The one writer: turns queue up while a transaction runs, and the next one takes them all.

What was decided first is committed first. A turn's `released` runs on the event loop once the turn
is durable, in the same order, whether or not anybody still waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio
import structlog
from anyio import to_thread
from longshore_core import RequestError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from longshore_server.changes import Changes
from longshore_server.store import rows

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("longshore_server.store")
_BATCH = 512


@dataclass(slots=True)
class Ticket:
    """A turn on its way to the disk."""

    changes: Changes
    released: Callable[[Changes], None]
    settled: anyio.Event = field(default_factory=anyio.Event)
    failed: bool = False

    async def wait(self) -> None:
        """Wait until the turn is durable. Raises RequestError STORE_UNAVAILABLE when it is not.

        Without a deadline: a transaction ends, one way or the other.
        """
        await self.settled.wait()
        if self.failed:
            raise store_unavailable()


def store_unavailable() -> RequestError:
    """What a caller hears when the database cannot be written to."""
    return RequestError(
        503, "STORE_UNAVAILABLE", "the database cannot be written to; see the server's log",
        retryable=True,
    )  # fmt: skip


class Writer:
    """Takes turns at any time; writes them while `run` runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Not bounded here: each request has at most one turn in it, and requests are bounded.
        self._send, self._receive = anyio.create_memory_object_stream[Ticket](math.inf)
        self._thread = anyio.CapacityLimiter(1)

    def submit(self, changes: Changes, released: Callable[[Changes], None]) -> Ticket:
        """Queue a turn behind all earlier ones. Once closed, its ticket fails."""
        ticket = Ticket(changes, released)
        try:
            self._send.send_nowait(ticket)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            ticket.failed = True
            ticket.settled.set()
        return ticket

    def close(self) -> None:
        """Take no more turns; `run` returns when the queued ones are written."""
        self._send.close()

    async def run(self, on_failure: Callable[[], None]) -> None:
        """Write until closed. A failed transaction fails all that is queued behind it too, since
        it was decided on top of it; `on_failure` then runs before any new turn is taken."""
        async with self._receive:
            async for first in self._receive:
                batch = self._take(first, _BATCH)
                try:
                    write = partial(self._write, [ticket.changes for ticket in batch])
                    await to_thread.run_sync(write, limiter=self._thread)
                except SQLAlchemyError as exc:
                    _log.error("store_write_failed", error=str(exc.__cause__ or exc))
                    batch += self._take(None, math.inf)
                    for ticket in batch:
                        ticket.failed = True
                    on_failure()
                for ticket in batch:
                    if not ticket.failed:
                        ticket.released(ticket.changes)
                    ticket.settled.set()

    def _take(self, first: Ticket | None, most: float) -> list[Ticket]:
        batch = [] if first is None else [first]
        while len(batch) < most:
            try:
                batch.append(self._receive.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        return batch

    def _write(self, batch: Sequence[Changes]) -> None:
        with self._engine.begin() as connection:
            for changes in _joined(batch):
                rows.write(connection, changes)


def _joined(batch: Sequence[Changes]) -> Iterator[Changes]:
    """The same turns in the same order, neighbours that only add put together."""
    together = Changes()
    for changes in batch:
        if changes.is_plain:
            together.absorb(changes)
            continue
        yield together
        yield changes
        together = Changes()
    yield together
