"""One turn: an input, the index, and the changes that follow. Synchronous, and without I/O.

The index is changed at once, the store a moment later; the caller commits the `Changes` in the
order of the turns and releases nothing of them before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from longshore_server import sandboxes
from longshore_server.changes import Changes, Registration
from longshore_server.index import Index, Slot
from longshore_server.model import (
    AddContainer,
    Command,
    ExecutorRecord,
    ExecutorStatus,
    FullState,
    Heartbeat,
    IdempotencyKey,
    NamespaceRecord,
    Queued,
    RemoveContainer,
    Report,
    SandboxRecord,
)
from longshore_server.placement import Refusal, place
from longshore_server.reconcile import Belief, Verdict, reconcile

Encode = Callable[[int, Command], bytes]
"""A command and its number, as the wire has it."""

KEY_LIFE_MS: Final = 24 * 60 * 60 * 1000
"""How long an idempotency key is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the scheduler cannot know by itself."""

    now_ms: Callable[[], int]
    seed: Callable[[], int]
    encode: Encode


class Scheduler:
    """Decides. Each method is one turn, and adds what it changed to `changes`."""

    def __init__(self, index: Index, world: World) -> None:
        self.index = index
        self._world = world

    def touch_namespace(self, changes: Changes, name: str) -> None:
        """Make a namespace on its first use."""
        if name not in self.index.namespaces:
            self.put_namespace(
                changes, NamespaceRecord(name=name, created_at_ms=self._world.now_ms())
            )

    def put_namespace(self, changes: Changes, record: NamespaceRecord) -> None:
        """Make a namespace, or give an existing one its storage."""
        self.index.namespaces[record.name] = record
        changes.namespaces.append(record)

    def create(
        self, changes: Changes, record: SandboxRecord, key: IdempotencyKey | None = None
    ) -> SandboxRecord:
        """Take in a new sandbox and try to place it; the answer is where it stands now."""
        self.touch_namespace(changes, record.namespace)
        if key is not None:
            self.index.keys[key.namespace, key.key] = key
            changes.keys.append(key)
        self.index.put(record)
        changes.sandboxes[record.id] = record
        self._try_place(changes, record)
        return changes.sandboxes[record.id]

    def put_sandbox(self, changes: Changes, record: SandboxRecord) -> None:
        """Record what of a live sandbox does not concern its state."""
        self.index.put(record)
        changes.sandboxes[record.id] = record

    def delete(self, changes: Changes, record: SandboxRecord) -> None:
        """End a live sandbox because its owner wants it gone."""
        self._step(changes, record, sandboxes.Deleted(self._world.now_ms()))

    def heartbeat(self, changes: Changes, beat: Heartbeat) -> bool:
        """Take in a heartbeat; the answer is whether the executor must send a full state."""
        slot = self.index.slots.get(beat.executor_id)
        if beat.full_state is not None:
            slot = slot or self._new_slot(beat.full_state.executor)
            self._detail(changes, beat)
            self._register(changes, slot, beat.full_state)
        if slot is None or not slot.registered:
            # Nothing is applied: the executor keeps its reports until a full state was taken.
            if slot is not None and beat.status is ExecutorStatus.STOPPED:
                self.deregister(changes, beat.executor_id)
            return beat.status is not ExecutorStatus.STOPPED
        woken = slot.draining and beat.status is not ExecutorStatus.DRAINED
        slot.draining = beat.status is ExecutorStatus.DRAINED
        self._detail(changes, beat)
        freed = [self._report(changes, slot, report) for report in beat.reports]
        if beat.status is ExecutorStatus.STOPPED:
            self.deregister(changes, beat.executor_id)
            return False
        if any(freed) or woken or beat.full_state is not None:
            self.place_waiting(changes)
        ask, slot.ask_state = slot.ask_state, False
        return ask

    def deregister(self, changes: Changes, executor_id: str) -> None:
        """An executor is gone, and with it all that was placed on it."""
        slot = self.index.slots.pop(executor_id)
        at_ms = self._world.now_ms()
        for sandbox_id in list(slot.placed.values()):
            self._step(changes, self.index.live[sandbox_id], sandboxes.ExecutorLost(at_ms))
        changes.executors = [one for one in changes.executors if one.executor.id != executor_id]
        changes.commands = [one for one in changes.commands if one.executor_id != executor_id]
        changes.dropped_executors.append(executor_id)
        self.place_waiting(changes)

    def acknowledge(self, changes: Changes, slot: Slot, done: Sequence[Queued]) -> None:
        """An executor has taken charge of these commands."""
        slot.unacknowledged.difference_update(one.container_id for one in done if one.adds)
        changes.acknowledged.append((slot.record.id, done[-1].seq))

    def place_waiting(self, changes: Changes) -> None:
        """Try the sandboxes that are nowhere yet, the oldest first."""
        queue = self.index.queue()
        while (item := queue.pop()) is not None:
            record, kind = item
            refusal = self._try_place(changes, record)
            if refusal is None:
                queue.go_on(kind)
            elif record.pending_reason is not refusal.reason:
                for other in queue.rest(kind):
                    self._step(changes, other, sandboxes.Unplaceable(refusal.reason))

    def forget_keys(self, changes: Changes) -> None:
        """Drop the idempotency keys whose time is over."""
        before = self._world.now_ms() - KEY_LIFE_MS
        old = [name for name, key in self.index.keys.items() if key.created_at_ms < before]
        for name in old:
            del self.index.keys[name]
        if old:
            changes.keys_before_ms = before

    def _try_place(self, changes: Changes, record: SandboxRecord) -> Refusal | None:
        found = place(
            record.spec.resources, record.namespace, self.index.candidates(), self._world.seed()
        )
        if isinstance(found, Refusal):
            self._step(changes, record, sandboxes.Unplaceable(found.reason))
            return found
        self.index.slots[found].reserve(record.id, record.spec.resources)
        self._step(changes, record, sandboxes.Placed(found))
        return None

    def _new_slot(self, executor: ExecutorRecord) -> Slot:
        return self.index.slots.setdefault(executor.id, Slot(record=executor))

    def _register(self, changes: Changes, slot: Slot, state: FullState) -> None:
        belief = Belief(
            placed={one: self.index.live[it] for one, it in slot.placed.items()},
            unplaced=self.index.unplaced(),
            unacknowledged=frozenset(slot.unacknowledged),
            first=not slot.registered,
        )
        verdict = reconcile(state.containers, belief)
        epoch = next(self.index.epochs)
        slot.reset(state.executor, verdict.reserved, epoch)
        changes.executors.append(Registration(state.executor, epoch))
        self._settle(changes, slot, verdict)

    def _settle(self, changes: Changes, slot: Slot, verdict: Verdict) -> None:
        at_ms, live = self._world.now_ms(), self.index.live
        for container_id in verdict.orphans:
            self._send(changes, slot, RemoveContainer(container_id=container_id))
        for sandbox_id, reason in verdict.ended:
            self._step(changes, live[sandbox_id], sandboxes.Ended(reason, at_ms))
        for sandbox_id, container_id in verdict.adopted:
            adopted = sandboxes.Adopted(slot.record.id, container_id)
            self._step(changes, live[sandbox_id], adopted)
        for sandbox_id in verdict.started:
            self._step(changes, live[sandbox_id], sandboxes.Started())
        for sandbox_id in verdict.again:
            self._send(changes, slot, AddContainer(sandbox=live[sandbox_id]))

    def _detail(self, changes: Changes, beat: Heartbeat) -> None:
        for container_id, detail in beat.details.items():
            record = self.index.sandbox_in(beat.executor_id, container_id)
            if record is not None:
                self._step(changes, record, sandboxes.Detailed(detail))

    def _report(self, changes: Changes, slot: Slot, report: Report) -> bool:
        """Whether it frees anything."""
        record = self.index.sandbox_in(slot.record.id, report.container_id)
        if report.ended is None:
            if record is not None:
                self._step(changes, record, sandboxes.Started())
            return False
        if record is not None:
            self._step(changes, record, sandboxes.Ended(report.ended, self._world.now_ms()))
        return slot.release(report.container_id)

    def _step(self, changes: Changes, record: SandboxRecord, event: sandboxes.Event) -> None:
        after, effects = sandboxes.step(record, event)
        if after != record:
            self.index.put(after)
            changes.sandboxes[after.id] = after
        for effect in effects:
            slot = self.index.slots.get(effect.executor_id)
            # One that is only remembered sends a full state first, which settles everything.
            if slot is not None and slot.registered:
                self._send(changes, slot, effect.command)

    def _send(self, changes: Changes, slot: Slot, command: Command) -> None:
        adds = isinstance(command, AddContainer)
        queued = Queued(
            executor_id=slot.record.id,
            seq=slot.next_seq,
            container_id=command.container_id,
            adds=adds,
            payload=self._world.encode(slot.next_seq, command),
        )
        slot.next_seq += 1
        if adds:
            slot.unacknowledged.add(queued.container_id)
        changes.commands.append(queued)
