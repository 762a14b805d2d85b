"""What one turn of the scheduler changes: committed as a whole, and only then acted upon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from longshore_core import JSON

from longshore_server.model import (
    ExecutorRecord,
    IdempotencyKey,
    NamespaceRecord,
    Queued,
    SandboxRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Something in the blob store."""

    url: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationRecord:
    """An application as it was deployed. `manifest` is the caller's own, kept word for word."""

    namespace: str
    name: str
    created_at_ms: int
    manifest: Mapping[str, JSON]
    code: Blob | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """A full state was taken: the executor's outbox starts empty, at 1."""

    executor: ExecutorRecord
    epoch: int
    """Its commands from here on; no two registrations have the same."""


@dataclass(slots=True)
class Changes:
    """Filled by one turn, then left alone. Written in the order of the fields."""

    namespaces: list[NamespaceRecord] = field(default_factory=list[NamespaceRecord])
    applications: list[ApplicationRecord] = field(default_factory=list[ApplicationRecord])
    dropped_applications: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    sandboxes: dict[str, SandboxRecord] = field(default_factory=dict[str, SandboxRecord])
    keys: list[IdempotencyKey] = field(default_factory=list[IdempotencyKey])
    keys_before_ms: int | None = None
    """Idempotency keys older than this are forgotten."""
    executors: list[Registration] = field(default_factory=list[Registration])
    dropped_executors: list[str] = field(default_factory=list[str])
    acknowledged: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Executors, and up to which command they are done."""
    commands: list[Queued] = field(default_factory=list[Queued])

    @property
    def is_plain(self) -> bool:
        """It only adds: then adjacent turns can be written as one, in fewer statements."""
        return not (
            self.applications
            or self.dropped_applications
            or self.keys_before_ms
            or self.executors
            or self.dropped_executors
            or self.acknowledged
        )

    def absorb(self, later: Changes) -> None:
        """Become this turn and a later one. Both must be plain."""
        self.namespaces += later.namespaces
        self.sandboxes |= later.sandboxes
        self.keys += later.keys
        self.commands += later.commands

    def __bool__(self) -> bool:
        return any(
            (
                self.namespaces,
                self.applications,
                self.dropped_applications,
                self.sandboxes,
                self.keys,
                self.keys_before_ms,
                self.executors,
                self.dropped_executors,
                self.acknowledged,
                self.commands,
            )
        )
