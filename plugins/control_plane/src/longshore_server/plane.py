"""The control plane: what both fronts ask, and the only owner of the index.

A turn decides synchronously, queues its changes for the writer before anybody else gets to run, and
is acted upon (commands handed out, waiters woken, callers answered) once it is durable. Should the
store refuse a turn, memory is ahead of the truth: then the index is built again from the store, as
after a restart, and the executors are asked for their full states.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import anyio
import structlog
from longshore_core import KernelBug, RequestError

from longshore_server.changes import ApplicationRecord, Changes
from longshore_server.index import Index, Slot
from longshore_server.model import (
    Heartbeat,
    IdempotencyKey,
    NamespaceRecord,
    SandboxRecord,
    SandboxStatus,
)
from longshore_server.outbox import Outbox
from longshore_server.scheduler import Scheduler, World
from longshore_server.store.database import Database
from longshore_server.store.reader import Reader
from longshore_server.store.writer import Ticket, Writer, store_unavailable
from longshore_server.watches import Watches

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("longshore_server.plane")
_RELOAD_PAUSE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """All in seconds."""

    executor_timeout: float = 30.0
    startup_sweep: float = 60.0
    long_poll: float = 300.0
    vacuum_interval: float = 60.0


class ExecutorUnknown(RequestError):
    """A poll from an executor that has not registered."""

    def __init__(self) -> None:
        super().__init__(404, "NOT_FOUND", "executor not registered")


class ControlPlane:
    """Open it with `open_plane`. Used from the event loop only."""

    def __init__(self, database: Database, reader: Reader, index: Index, world: World,
                 timing: Timing) -> None:  # fmt: skip
        self.reader = reader
        self._writer = Writer(database.write)
        self._scheduler = Scheduler(index, world)
        self._world = world
        self._timing = timing
        self._outboxes: dict[str, Outbox] = {}
        self._watches = Watches()
        self._rearm = anyio.Event()
        self._reload = anyio.Event()
        self._stopping = False

    @property
    def index(self) -> Index:
        """What is decided but perhaps not yet durable. To look at only."""
        return self._scheduler.index

    @property
    def is_writable(self) -> bool:
        return not self._reload.is_set()

    def stop(self) -> None:
        """Send everybody away who waits, and take no more work. Idempotent."""
        self._stopping = True
        for outbox in self._outboxes.values():
            outbox.close()
        self._watches.wake_all()

    def refuse_when_unable(self) -> None:
        """Raise RequestError SHUTTING_DOWN or STORE_UNAVAILABLE when no work can be taken."""
        if self._stopping:
            raise RequestError(503, "SHUTTING_DOWN", "the server is about to stop", retryable=True)
        if not self.is_writable:
            raise store_unavailable()

    # --- namespaces and applications

    async def put_namespace(self, record: NamespaceRecord) -> None:
        """Make a namespace, or replace the storage of an existing one."""
        self.refuse_when_unable()
        known = self.index.namespaces.get(record.name)
        changes = Changes()
        if known is None:
            self._scheduler.put_namespace(changes, record)
        elif record.blob_storage_bucket is not None:
            kept = replace(record, created_at_ms=known.created_at_ms)
            self._scheduler.put_namespace(changes, kept)
        await self._commit(changes)

    async def put_application(self, record: ApplicationRecord) -> None:
        """Deploy an application in place of any of the same name."""
        self.refuse_when_unable()
        changes = Changes(applications=[record])
        self._scheduler.touch_namespace(changes, record.namespace)
        self.index.applications.add((record.namespace, record.name))
        await self._commit(changes)

    async def drop_application(self, namespace: str, name: str) -> None:
        """Forget an application. One that does not exist is no error."""
        self.refuse_when_unable()
        self.index.applications.discard((namespace, name))
        await self._commit(Changes(dropped_applications=[(namespace, name)]))

    # --- sandboxes

    async def create(
        self, record: SandboxRecord, key: IdempotencyKey | None = None
    ) -> SandboxRecord:
        """Take in a sandbox; the answer is durable, and says where it stands.

        With a key that was used before, the answer is the sandbox of that time. Raises
        RequestError IDEMPOTENCY_MISMATCH when the key came with something else, NAME_TAKEN.
        """
        self.refuse_when_unable()
        if key is not None:
            known = self.index.keys.get((key.namespace, key.key))
            if known is not None:
                return await self._same_again(known, key)
        self._refuse_taken(record)
        changes = Changes()
        placed = self._scheduler.create(changes, record, key)
        await self._commit(changes)
        return placed

    async def update(self, record: SandboxRecord) -> None:
        """Record a live sandbox's new name and settings. Raises RequestError NAME_TAKEN."""
        self.refuse_when_unable()
        self._refuse_taken(record)
        changes = Changes()
        self._scheduler.put_sandbox(changes, record)
        await self._commit(changes)

    def id_of(self, namespace: str, called: str) -> str:
        """The id of what is called by its id or its name. Nothing is that: the word itself."""
        return self.index.named(namespace, called) or called

    async def delete(self, namespace: str, sandbox_id: str) -> bool:
        """End a sandbox; whether there is one. Ending it again changes nothing."""
        self.refuse_when_unable()
        record = self.index.live.get(sandbox_id)
        if record is None:
            ended = await self.settled(sandbox_id)
            return ended is not None and ended.namespace == namespace
        if record.namespace != namespace:
            return False
        changes = Changes()
        self._scheduler.delete(changes, record)
        await self._commit(changes)
        return True

    async def settled(self, sandbox_id: str) -> SandboxRecord | None:
        """A sandbox as it is once all that was decided until now is durable."""
        await self._submit(Changes()).wait()
        return await self.reader.sandbox(sandbox_id)

    async def wait_past_pending(self, record: SandboxRecord) -> SandboxRecord:
        """Wait until a sandbox runs or has ended, durably. The caller sets the deadline.

        Raises RequestError SHUTTING_DOWN when the server stops first.
        """
        with self._watches.of(record.id) as watch:
            latest = await self.settled(record.id) or record
            while latest.status is SandboxStatus.PENDING:
                self.refuse_when_unable()
                changed = watch.changed
                if watch.latest is None:
                    await changed.wait()
                latest, watch.latest = watch.latest or latest, None
        return latest

    # --- executors

    async def heartbeat(self, beat: Heartbeat) -> bool:
        """Take in a heartbeat; whether the executor must send its full state. Durable."""
        self.refuse_when_unable()
        changes = Changes()
        ask = self._scheduler.heartbeat(changes, beat)
        if (slot := self.index.slots.get(beat.executor_id)) is not None:
            self._extend_life(slot)
        await self._commit(changes)
        return ask

    async def poll_commands(self, executor_id: str, acknowledged: int | None) -> Sequence[bytes]:
        """The commands for an executor, waiting for one for a while when there is none.

        Raises ExecutorUnknown.
        """
        slot, outbox = self._connected(executor_id)
        if outbox.regressed(acknowledged):
            slot.ask_state = True
        done = outbox.acknowledge(acknowledged)
        # Between a full state and its commit, an acknowledgement still means the old numbers.
        if done and outbox.epoch == slot.epoch and self.is_writable:
            changes = Changes()
            self._scheduler.acknowledge(changes, slot, done)
            # Not waited for: should it be lost, the command is delivered once more.
            self._submit(changes)
        with anyio.move_on_after(self._timing.long_poll):
            while not outbox.closed:
                if commands := outbox.batch():
                    return commands
                await outbox.changed.wait()
        return ()

    async def hold_results_poll(self, executor_id: str) -> None:
        """Hold a poll for results, of which there are none. Raises ExecutorUnknown."""
        _, outbox = self._connected(executor_id)
        with anyio.move_on_after(self._timing.long_poll):
            while not outbox.closed:
                await outbox.changed.wait()

    # --- tasks

    async def write(self) -> None:
        """Write turns until `stop_writing`."""
        # Asked for each time: every recovery ends with another event to set.
        await self._writer.run(lambda: self._reload.set())

    def stop_writing(self) -> None:
        self._writer.close()

    async def expire(self) -> None:
        """Give up executors that were not heard of in time. For ever."""
        while True:
            due = self.index.next_deadline() if self.is_writable else None
            with anyio.move_on_at(float("inf") if due is None else due):
                await self._rearm.wait()
            self._rearm = anyio.Event()
            await self._expire_due()

    async def recover(self) -> None:
        """Build the index again whenever the store has refused a turn. For ever."""
        while True:
            await self._reload.wait()
            try:
                loaded = await self.reader.load()
            except RequestError:
                await anyio.sleep(_RELOAD_PAUSE)
                continue
            deadline = anyio.current_time() + self._timing.startup_sweep
            self._scheduler = Scheduler(Index(loaded, deadline), self._world)
            for outbox in self._outboxes.values():
                outbox.close()
            self._outboxes.clear()
            self._reload = anyio.Event()
            self._rearm.set()
            _log.warning("index_rebuilt", sandboxes=len(loaded.sandboxes))

    async def vacuum(self) -> None:
        """Forget what nobody needs any more, every now and then. For ever."""
        while True:
            await anyio.sleep(self._timing.vacuum_interval)
            if self.is_writable:
                changes = Changes()
                self._scheduler.forget_keys(changes)
                if changes:
                    self._submit(changes)

    # --- inside

    def _refuse_taken(self, record: SandboxRecord) -> None:
        if record.name is None:
            return
        holder = self.index.named(record.namespace, record.name)
        if holder not in (None, record.id):
            raise RequestError(
                409,
                "NAME_TAKEN",
                f"sandbox {holder} in namespace {record.namespace} is called {record.name!r}"
                " already; delete it, or choose another name",
            )

    async def _same_again(self, known: IdempotencyKey, key: IdempotencyKey) -> SandboxRecord:
        if known.digest != key.digest:
            raise RequestError(
                409,
                "IDEMPOTENCY_MISMATCH",
                f"the idempotency key {key.key!r} was used before with another request",
            )
        record = await self.settled(known.sandbox_id)
        if record is None:
            raise KernelBug(f"an idempotency key leads to no sandbox: {known.sandbox_id}")
        return record

    def _submit(self, changes: Changes) -> Ticket:
        return self._writer.submit(changes, self._release)

    async def _commit(self, changes: Changes) -> None:
        if changes:
            await self._submit(changes).wait()

    def _release(self, changes: Changes) -> None:
        for executor_id in changes.dropped_executors:
            self._close_outbox(executor_id)
        for one in changes.executors:
            self._close_outbox(one.executor.id)
            fresh = self._outboxes[one.executor.id] = Outbox(one.epoch)
            if self._stopping:
                fresh.close()
        for executor_id in {command.executor_id for command in changes.commands}:
            if (outbox := self._outboxes.get(executor_id)) is not None:
                outbox.extend(one for one in changes.commands if one.executor_id == executor_id)
        self._watches.tell(changes.sandboxes)

    def _close_outbox(self, executor_id: str) -> None:
        if (outbox := self._outboxes.pop(executor_id, None)) is not None:
            outbox.close()

    def _connected(self, executor_id: str) -> tuple[Slot, Outbox]:
        self.refuse_when_unable()
        slot, outbox = self.index.slots.get(executor_id), self._outboxes.get(executor_id)
        if slot is None or not slot.registered or outbox is None:
            raise ExecutorUnknown
        self._extend_life(slot)
        return slot, outbox

    def _extend_life(self, slot: Slot) -> None:
        if not slot.registered:
            return  # What is only remembered has until the startup sweep, whatever it says.
        is_new = slot.deadline == 0.0
        slot.deadline = anyio.current_time() + self._timing.executor_timeout
        if is_new:
            self._rearm.set()

    async def _expire_due(self) -> None:
        if not self.is_writable:
            return
        now = anyio.current_time()
        overdue = [one for one, slot in self.index.slots.items() if slot.deadline <= now]
        changes = Changes()
        for executor_id in overdue:
            _log.warning("executor_lost", executor_id=executor_id)
            self._scheduler.deregister(changes, executor_id)
        try:
            await self._commit(changes)
        except RequestError:
            # The index is built again, and the executor has a new deadline there.
            _log.warning("executor_loss_not_recorded", executors=overdue)


@asynccontextmanager
async def open_plane(
    database: Database, world: World, timing: Timing
) -> AsyncGenerator[ControlPlane, None]:
    """Rebuild the index, and keep the plane's own tasks running. What was taken in is written
    before this is left."""
    reader = Reader(database.read)
    loaded = await reader.load()
    index = Index(loaded, anyio.current_time() + timing.startup_sweep)
    plane = ControlPlane(database, reader, index, world, timing)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_shielded_write, plane)
        tasks.start_soon(plane.expire)
        tasks.start_soon(plane.recover)
        tasks.start_soon(plane.vacuum)
        try:
            yield plane
        finally:
            plane.stop()
            plane.stop_writing()
            tasks.cancel_scope.cancel()


async def _shielded_write(plane: ControlPlane) -> None:
    # It ends when it is closed and all is written, not when the server is told to stop.
    with anyio.CancelScope(shield=True):
        await plane.write()
