"""What the host has to give, and what has been promised of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from longshore_core._errors import CapacityExhausted
from longshore_core._model import ContainerId, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    cpu_millis: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Reservations by container. Reserving again under one id takes the place of the first."""

    total: Capacity
    held: Mapping[ContainerId, Limits] = field(default_factory=dict[ContainerId, Limits])

    def free(self) -> Capacity:
        """What is left; below zero where adopted containers hold more than there is."""
        held = self.held.values()
        return Capacity(
            cpu_millis=self.total.cpu_millis - sum(item.cpu_millis or 0 for item in held),
            memory_bytes=self.total.memory_bytes - sum(item.memory_bytes or 0 for item in held),
            disk_bytes=self.total.disk_bytes - sum(item.disk_bytes or 0 for item in held),
        )

    def reserve(self, id_: ContainerId, limits: Limits) -> Ledger:
        """Promise `limits` to a container. Raises CapacityExhausted, naming what is short."""
        without = self.release(id_)
        free = without.free()
        for resource, requested, available in (
            ("cpu_millis", limits.cpu_millis, free.cpu_millis),
            ("memory_bytes", limits.memory_bytes, free.memory_bytes),
            ("disk_bytes", limits.disk_bytes, free.disk_bytes),
        ):
            if requested and requested > available:
                raise CapacityExhausted(resource, requested=requested, available=max(0, available))
        return without.adopt(id_, limits)

    def adopt(self, id_: ContainerId, limits: Limits) -> Ledger:
        """Record what a container that exists holds already, whether or not there is room."""
        return replace(self, held={**self.held, id_: limits})

    def release(self, id_: ContainerId) -> Ledger:
        """Take a promise back; unknown ids are nothing to take back."""
        if id_ not in self.held:
            return self
        return replace(self, held={key: item for key, item in self.held.items() if key != id_})
