"""The life of a sandbox: every transition is in `step`, and nothing outside it changes a status.

    pending (unplaced) ──Placed──► pending (waiting_for_container) ──Started──► running
            │                                  │                                   │
            └──────────────── Deleted, Ended, ExecutorLost ────────────────────────┴──► terminated

A placed sandbox is never placed again: what happened inside it cannot be repeated elsewhere. What
the world should do next is returned as effects. A stale fact is ignored by name; an impossible one
is our bug. No clock: events carry the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from longshore_core import KernelBug

from longshore_server.model import (
    AddContainer,
    Command,
    ContainerDetail,
    PendingReason,
    RemoveContainer,
    SandboxRecord,
    SandboxStatus,
    TerminationReason,
)


@dataclass(frozen=True, slots=True)
class Placed:
    """An executor has room for it."""

    executor_id: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """An executor runs it already, though the server does not know of having placed it."""

    executor_id: str
    container_id: str


@dataclass(frozen=True, slots=True)
class Unplaceable:
    reason: PendingReason


@dataclass(frozen=True, slots=True)
class Started:
    """Its container runs."""


@dataclass(frozen=True, slots=True)
class Detailed:
    """Its executor says more of its container."""

    detail: ContainerDetail


@dataclass(frozen=True, slots=True)
class Deleted:
    """A caller wants it gone."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Its container is no more."""

    reason: TerminationReason
    at_ms: int


@dataclass(frozen=True, slots=True)
class ExecutorLost:
    at_ms: int


Event: TypeAlias = (
    Placed | Adopted | Unplaceable | Started | Detailed | Deleted | Ended | ExecutorLost
)


@dataclass(frozen=True, slots=True)
class Send:
    """Give `command` to the executor."""

    executor_id: str
    command: Command


Effect: TypeAlias = Send

USER_TERMINATED = "Success(UserTerminated)"
TIMED_OUT = "Success(Timeout)"
EXECUTOR_REMOVED = "Failure(ExecutorRemoved)"


def step(record: SandboxRecord, event: Event) -> tuple[SandboxRecord, tuple[Effect, ...]]:
    """What becomes of a sandbox, and what to tell its executor.

    Raises KernelBug for an event that cannot happen to it.
    """
    match record.status, event:
        # Over is over. Each of these was true when it was sent.
        case SandboxStatus.TERMINATED, Started() | Detailed() | Deleted() | Ended():
            return record, ()
        case SandboxStatus.TERMINATED, ExecutorLost():
            return record, ()
        case SandboxStatus.PENDING, Placed(executor_id) if record.executor_id is None:
            placed = replace(
                record,
                executor_id=executor_id,
                container_id=record.id,
                pending_reason=PendingReason.WAITING_FOR_CONTAINER,
            )
            return placed, (Send(executor_id, AddContainer(sandbox=placed)),)
        case SandboxStatus.PENDING, Adopted() if record.executor_id is None:
            adopted = replace(
                record,
                executor_id=event.executor_id,
                container_id=event.container_id,
                pending_reason=PendingReason.WAITING_FOR_CONTAINER,
            )
            return adopted, ()
        case SandboxStatus.PENDING, Unplaceable(reason) if record.executor_id is None:
            return replace(record, pending_reason=reason), ()
        case SandboxStatus.PENDING, Started() if record.executor_id is not None:
            return replace(record, status=SandboxStatus.RUNNING, pending_reason=None), ()
        # Reported twice: by a response to the command, and by a full state.
        case SandboxStatus.RUNNING, Started():
            return record, ()
        case _, Detailed(detail) if record.executor_id is not None:
            return replace(record, detail=_merged(record.detail, detail)), ()
        case _, Deleted(at_ms):
            return _terminated(record, USER_TERMINATED, at_ms), _removal(record)
        case _, Ended(reason, at_ms) if record.executor_id is not None:
            return _terminated(record, _outcome(reason), at_ms), ()
        case _, ExecutorLost(at_ms) if record.executor_id is not None:
            return _terminated(record, EXECUTOR_REMOVED, at_ms), ()
        case _:
            where = "unplaced" if record.executor_id is None else f"on {record.executor_id}"
            raise KernelBug(f"{type(event).__name__} while {record.status} ({where}): {record.id}")


def _terminated(record: SandboxRecord, outcome: str, at_ms: int) -> SandboxRecord:
    return replace(
        record,
        status=SandboxStatus.TERMINATED,
        pending_reason=None,
        outcome=outcome,
        terminated_at_ms=at_ms,
    )


def _removal(record: SandboxRecord) -> tuple[Effect, ...]:
    if record.executor_id is None or record.container_id is None:
        return ()
    return (Send(record.executor_id, RemoveContainer(container_id=record.container_id)),)


def _outcome(reason: TerminationReason) -> str:
    if reason is TerminationReason.FUNCTION_TIMEOUT:
        return TIMED_OUT
    return f"Failure(ContainerTerminated({reason}))"


def _merged(known: ContainerDetail, said: ContainerDetail) -> ContainerDetail:
    """The newer word wins, and what it leaves out stays."""
    return ContainerDetail(
        image_applied=known.image_applied if said.image_applied is None else said.image_applied,
        error_message=said.error_message or known.error_message,
        error_code=said.error_code or known.error_code,
        exit_code=known.exit_code if said.exit_code is None else said.exit_code,
    )
