"""What a worker says that it has, against what the server believes. Pure.

A worker lists all its containers in a full state. Both sides may be right about a difference: a
command may be under way, or the worker may have lost something. What decides is whether the
command was acknowledged, and whether the sandbox ever ran.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from longshore_server.model import (
    ContainerStatus,
    ReportedContainer,
    Resources,
    SandboxRecord,
    SandboxStatus,
    TerminationReason,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """The server's side."""

    placed: Mapping[str, SandboxRecord]
    """The live sandboxes on this executor, by container."""
    unplaced: Mapping[str, SandboxRecord]
    """The live sandboxes that are nowhere yet, by sandbox."""
    unacknowledged: Collection[str]
    """Containers whose AddContainer this executor has not acknowledged."""
    first: bool
    """It is this executor's first full state since the server started."""


@dataclass(slots=True)
class Verdict:
    """What follows. Every reported container and every placed sandbox is in it at most once."""

    started: list[str] = field(default_factory=list[str])
    """Sandboxes whose container runs."""
    adopted: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Sandboxes found on the executor, and their containers. Also in `started` when they run."""
    ended: list[tuple[str, TerminationReason]] = field(
        default_factory=list[tuple[str, TerminationReason]]
    )
    """Sandboxes whose container is no more."""
    again: list[str] = field(default_factory=list[str])
    """Sandboxes whose AddContainer is to be sent again."""
    orphans: list[str] = field(default_factory=list[str])
    """Containers that nobody wants."""
    reserved: dict[str, Resources] = field(default_factory=dict[str, Resources])
    """What is taken of the executor, by container."""


def reconcile(reported: Sequence[ReportedContainer], belief: Belief) -> Verdict:
    """Settle each difference between a full state and the server's belief."""
    verdict = Verdict()
    by_id = {container.container_id: container for container in reported}
    for container in by_id.values():
        own = belief.placed.get(container.container_id)
        if own is not None:
            _settle_known(verdict, own, container)
        elif container.status is not ContainerStatus.TERMINATED:
            _settle_unknown(verdict, container, belief)
    for container_id, own in belief.placed.items():
        if container_id not in by_id:
            _settle_missing(verdict, own, container_id, belief)
    return verdict


def _settle_known(verdict: Verdict, own: SandboxRecord, container: ReportedContainer) -> None:
    if container.status is ContainerStatus.TERMINATED:
        verdict.ended.append((own.id, container.reason))
        return
    verdict.reserved[container.container_id] = own.spec.resources
    if container.status is ContainerStatus.RUNNING and own.status is SandboxStatus.PENDING:
        verdict.started.append(own.id)


def _settle_unknown(verdict: Verdict, container: ReportedContainer, belief: Belief) -> None:
    sandbox = belief.unplaced.get(container.sandbox_id or "")
    if sandbox is None or any(sandbox.id == taken for taken, _ in verdict.adopted):
        verdict.orphans.append(container.container_id)
        verdict.reserved[container.container_id] = container.resources
        return
    verdict.adopted.append((sandbox.id, container.container_id))
    verdict.reserved[container.container_id] = sandbox.spec.resources
    if container.status is ContainerStatus.RUNNING:
        verdict.started.append(sandbox.id)


def _settle_missing(
    verdict: Verdict, own: SandboxRecord, container_id: str, belief: Belief
) -> None:
    # What ran and is gone cannot be repeated. What never ran can be asked for again, unless the
    # executor took charge of it before the server restarted and now knows nothing of it.
    under_way = container_id in belief.unacknowledged or not belief.first
    if own.status is SandboxStatus.PENDING and under_way:
        verdict.again.append(own.id)
        verdict.reserved[container_id] = own.spec.resources
    else:
        verdict.ended.append((own.id, TerminationReason.UNKNOWN))
