"""Where a sandbox goes. Pure: chance is an argument.

Of the executors that have room, two are looked at and the one with more free memory is taken: as
even as always taking the emptiest, without every decision of a burst falling on the same machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from longshore_server.model import AllowedFunction, Gpu, PendingReason, Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    executor_id: str
    free: Resources
    allowed: tuple[AllowedFunction, ...] = ()
    """Empty: everything."""


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: PendingReason


def place(
    wanted: Resources, namespace: str, candidates: Sequence[Candidate], seed: int
) -> str | Refusal:
    """The executor for a sandbox, or why there is none. The same arguments, the same answer.

    `seed` is any non-negative number; the order of `candidates` does not matter.
    """
    permitted = [one for one in candidates if permits(one.allowed, namespace)]
    if not permitted:
        return Refusal(PendingReason.NO_EXECUTORS_AVAILABLE)
    fitting = sorted(
        (one for one in permitted if fits(wanted, one.free)), key=lambda one: one.executor_id
    )
    if not fitting:
        return Refusal(PendingReason.NO_RESOURCES_AVAILABLE)
    first, second = _two(len(fitting), seed)
    pair = (fitting[first], fitting[second])
    return max(pair, key=lambda one: (one.free.memory_bytes, one.executor_id)).executor_id


def permits(allowed: Sequence[AllowedFunction], namespace: str) -> bool:
    """Whether an allow-list admits sandboxes of a namespace."""
    return not allowed or any(entry.namespace in (None, namespace) for entry in allowed)


def fits(wanted: Resources, free: Resources) -> bool:
    """Whether there is room for it: each resource by itself, and GPUs of the right model."""
    return (
        wanted.cpu_millis <= free.cpu_millis
        and wanted.memory_bytes <= free.memory_bytes
        and wanted.disk_bytes <= free.disk_bytes
        and _gpu_fits(wanted.gpu, free.gpu)
    )


def less(free: Resources, taken: Resources) -> Resources:
    """What is left of `free`. Negative when more was taken than there is."""
    gpu = free.gpu
    if gpu is not None and taken.gpu is not None and taken.gpu.model == gpu.model:
        gpu = replace(gpu, count=gpu.count - taken.gpu.count)
    return Resources(
        cpu_millis=free.cpu_millis - taken.cpu_millis,
        memory_bytes=free.memory_bytes - taken.memory_bytes,
        disk_bytes=free.disk_bytes - taken.disk_bytes,
        gpu=gpu,
    )


def more(free: Resources, returned: Resources) -> Resources:
    """The opposite of `less`."""
    gpu = free.gpu
    if gpu is not None and returned.gpu is not None and returned.gpu.model == gpu.model:
        gpu = replace(gpu, count=gpu.count + returned.gpu.count)
    return Resources(
        cpu_millis=free.cpu_millis + returned.cpu_millis,
        memory_bytes=free.memory_bytes + returned.memory_bytes,
        disk_bytes=free.disk_bytes + returned.disk_bytes,
        gpu=gpu,
    )


def _two(count: int, seed: int) -> tuple[int, int]:
    """Two places out of `count`, different ones when there are two."""
    first = seed % count
    if count == 1:
        return first, first
    return first, (first + 1 + (seed // count) % (count - 1)) % count


def _gpu_fits(wanted: Gpu | None, free: Gpu | None) -> bool:
    if wanted is None or wanted.count == 0:
        return True
    return free is not None and free.model == wanted.model and wanted.count <= free.count
