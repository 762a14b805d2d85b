"""What the scheduler decides on: all live state, in memory, rebuilt from the store at start."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from longshore_server.model import (
    ExecutorRecord,
    IdempotencyKey,
    NamespaceRecord,
    Resources,
    SandboxRecord,
)
from longshore_server.placement import Candidate, less, more
from longshore_server.store.rows import Loaded

Profile = tuple[str, Resources]
"""What decides whether a sandbox fits anywhere: its namespace and its resources."""


@dataclass(slots=True, kw_only=True)
class Slot:
    """An executor, and what is on it."""

    record: ExecutorRecord
    registered: bool = False
    """It sent a full state since this server started; else it is only remembered."""
    draining: bool = False
    free: Resources = field(default_factory=Resources)
    containers: dict[str, Resources] = field(default_factory=dict[str, Resources])
    """What is taken, until the executor says that the container is no more."""
    placed: dict[str, str] = field(default_factory=dict[str, str])
    """Live sandboxes by their container."""
    unacknowledged: set[str] = field(default_factory=set[str])
    """Containers whose AddContainer it has not acknowledged."""
    next_seq: int = 1
    epoch: int = 0
    """Names its last full state: commands are numbered anew after each."""
    deadline: float = 0.0
    ask_state: bool = False
    """Its next heartbeat is answered by asking for a full state."""

    def reserve(self, container_id: str, resources: Resources) -> None:
        self.release(container_id)
        self.containers[container_id] = resources
        self.free = less(self.free, resources)

    def release(self, container_id: str) -> bool:
        """Whether anything was freed."""
        taken = self.containers.pop(container_id, None)
        if taken is None:
            return False
        self.free = more(self.free, taken)
        return True

    def reset(self, record: ExecutorRecord, reserved: Mapping[str, Resources], epoch: int) -> None:
        """Start over with what a full state says."""
        self.record, self.free, self.containers = record, record.capacity, {}
        self.unacknowledged.clear()
        self.registered, self.ask_state, self.next_seq = True, False, 1
        self.epoch = epoch
        for container_id, resources in reserved.items():
            self.reserve(container_id, resources)


class Index:
    """Live sandboxes, executors, names and idempotency keys. Synchronous; owned by one task."""

    def __init__(self, loaded: Loaded, deadline: float) -> None:
        self.namespaces: dict[str, NamespaceRecord] = {one.name: one for one in loaded.namespaces}
        self.applications: set[tuple[str, str]] = set(loaded.applications)
        self.keys: dict[tuple[str, str], IdempotencyKey] = {
            (key.namespace, key.key): key for key in loaded.keys
        }
        self.epochs = itertools.count(1)
        self.slots: dict[str, Slot] = {}
        self.live: dict[str, SandboxRecord] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._unplaced: dict[Profile, dict[str, None]] = {}
        for executor in loaded.executors:
            self.slots[executor.id] = Slot(record=executor, deadline=deadline)
        for sandbox in loaded.sandboxes:
            if sandbox.executor_id is not None and sandbox.executor_id not in self.slots:
                stray = ExecutorRecord(id=sandbox.executor_id)
                self.slots[stray.id] = Slot(record=stray, deadline=deadline)
            self.put(sandbox)
        for executor_id, container_id in loaded.unacknowledged:
            self.slots[executor_id].unacknowledged.add(container_id)

    def put(self, record: SandboxRecord) -> None:
        """Take in a sandbox's new state; a terminated one is forgotten here."""
        profile = (record.namespace, record.spec.resources)
        former = self.live.pop(record.id, None)
        if former is not None and former.name is not None:
            del self._named[former.namespace, former.name]
        if record.is_live:
            self.live[record.id] = record
            if record.name is not None:
                self._named[record.namespace, record.name] = record.id
        if record.is_live and record.executor_id is None:
            self._unplaced.setdefault(profile, {})[record.id] = None
        elif waiting := self._unplaced.get(profile):
            waiting.pop(record.id, None)
            if not waiting:
                del self._unplaced[profile]
        if record.executor_id is None or record.container_id is None:
            return
        slot = self.slots.get(record.executor_id)
        if slot is None:
            return
        if record.is_live:
            slot.placed[record.container_id] = record.id
        else:
            slot.placed.pop(record.container_id, None)

    def named(self, namespace: str, name: str) -> str | None:
        """The live sandbox of that name."""
        return self._named.get((namespace, name))

    def unplaced(self) -> Mapping[str, SandboxRecord]:
        """The sandboxes that are nowhere yet."""
        return {one: self.live[one] for waiting in self._unplaced.values() for one in waiting}

    def queue(self) -> Queue:
        """The unplaced sandboxes in the order in which they are to be tried."""
        return Queue(self.live, self._unplaced)

    def sandbox_in(self, executor_id: str, container_id: str) -> SandboxRecord | None:
        """The live sandbox in a container of an executor."""
        slot = self.slots.get(executor_id)
        sandbox_id = slot.placed.get(container_id) if slot else None
        return None if sandbox_id is None else self.live.get(sandbox_id)

    def candidates(self) -> list[Candidate]:
        """The executors that take sandboxes now."""
        return [
            Candidate(executor_id=one.record.id, free=one.free, allowed=one.record.allowed)
            for one in self.slots.values()
            if one.registered and not one.draining
        ]

    def next_deadline(self) -> float | None:
        """When the first executor is overdue."""
        return min((slot.deadline for slot in self.slots.values()), default=None)


class Queue:
    """The oldest first, and no more of a kind once one of that kind found no room.

    So a pass costs what it places and the number of kinds, not the number that wait.
    """

    def __init__(
        self, live: Mapping[str, SandboxRecord], unplaced: Mapping[Profile, Mapping[str, None]]
    ) -> None:
        self._live = live
        self._kinds: list[Iterator[str]] = [iter(list(kind)) for kind in unplaced.values()]
        self._heap: list[tuple[int, str, int]] = []
        for number in range(len(self._kinds)):
            self.go_on(number)

    def pop(self) -> tuple[SandboxRecord, int] | None:
        """The next to try, and the number of its kind; `go_on` brings more of that kind."""
        if not self._heap:
            return None
        _, sandbox_id, number = heapq.heappop(self._heap)
        return self._live[sandbox_id], number

    def go_on(self, number: int) -> None:
        """Offer the next of a kind too."""
        following = next(self._kinds[number], None)
        if following is not None:
            created = self._live[following].created_at_ms
            heapq.heappush(self._heap, (created, following, number))

    def rest(self, number: int) -> Iterator[SandboxRecord]:
        """All others of a kind."""
        return (self._live[one] for one in self._kinds[number])
