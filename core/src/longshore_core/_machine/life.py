"""The life of one container: its states, and the facts and wishes that move it.

    Creating → Starting → Admitting → Releasing → Running → Stopping → Removing → Terminated

All of it is plain data: it is stored as JSON, and read back by the next worker. `tag` names a
state in storage and in the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from longshore_core._model import (
    Attachment,
    ContainerId,
    ContainerKind,
    Exit,
    Found,
    Handle,
    Limits,
    NetworkPolicy,
)


class TerminationReason(StrEnum):
    """Why a container ended, in the wire's words."""

    UNKNOWN = "UNKNOWN"
    STARTUP_FAILED_INTERNAL_ERROR = "STARTUP_FAILED_INTERNAL_ERROR"
    STARTUP_FAILED_FUNCTION_ERROR = "STARTUP_FAILED_FUNCTION_ERROR"
    STARTUP_FAILED_FUNCTION_TIMEOUT = "STARTUP_FAILED_FUNCTION_TIMEOUT"
    UNHEALTHY = "UNHEALTHY"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    FUNCTION_TIMEOUT = "FUNCTION_TIMEOUT"
    FUNCTION_CANCELLED = "FUNCTION_CANCELLED"
    OOM = "OOM"
    PROCESS_CRASH = "PROCESS_CRASH"
    STARTUP_FAILED_BAD_IMAGE = "STARTUP_FAILED_BAD_IMAGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the server wants, read once from its description."""

    id: ContainerId
    kind: ContainerKind = ContainerKind.SANDBOX
    description: bytes = field(default=b"", repr=False)
    """The description as it came: it has to be echoed verbatim."""
    namespace: str = ""
    application_version: str = ""
    pool_id: str = ""
    sandbox_id: str | None = None
    """Absent in a warm container that nobody has claimed yet: it never expires."""
    image: str | None = None
    entrypoint: tuple[str, ...] = ()
    secret_names: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    limits: Limits = field(default_factory=Limits)
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)

    def says_the_same(self, other: Order) -> bool:
        """Whether the server has sent the same description: the rest may have been read from it by
        another version of the worker, which read less."""
        return self.description == other.description if self.description else self == other


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a container ends: `reason` for machines, `message` for a person, `code` for both."""

    reason: TerminationReason
    message: str = ""
    code: str | None = None
    exit: Exit | None = None


# --- states --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Creating:
    """The driver is making it; nothing is known of it yet."""

    tag: Literal["creating"] = "creating"


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """It exists, and PID 1 is being started."""

    tag: Literal["starting"] = "starting"
    handle: Handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitting:
    """PID 1 runs and is held; its network policy is being put in force."""

    tag: Literal["admitting"] = "admitting"
    handle: Handle
    attachment: Attachment


@dataclass(frozen=True, slots=True, kw_only=True)
class Releasing:
    """Policy is in force; the guest is being told to go."""

    tag: Literal["releasing"] = "releasing"
    handle: Handle
    attachment: Attachment


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    tag: Literal["running"] = "running"
    handle: Handle
    attachment: Attachment


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """It was asked to end, and may do so in order until `kill_at` (seconds since the epoch)."""

    tag: Literal["stopping"] = "stopping"
    handle: Handle
    attachment: Attachment
    why: Ending
    kill_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Removing:
    """It is being taken away, by force, for as many attempts as it takes."""

    tag: Literal["removing"] = "removing"
    handle: Handle | None = None
    """Absent when `create` was not seen to end: the driver is asked by id."""
    why: Ending
    attempts: int = 0
    policy_stays: bool = False
    """This attempt could not take its network policy back: there has to be another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    """Nothing of it is left but this record, which goes once the server knows."""

    tag: Literal["terminated"] = "terminated"
    why: Ending


Life: TypeAlias = (
    Creating | Starting | Admitting | Releasing | Running | Stopping | Removing | Terminated
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Everything that the worker knows of one container."""

    order: Order
    life: Life
    incarnation: int
    """Tells this life under the id from an earlier one: late facts of that one are stale."""
    token: str = field(repr=False)
    claimed_at: float | None = None
    """When its timeout began to count, in seconds since the epoch."""
    quarantined: bool = False

    @property
    def id(self) -> ContainerId:
        return self.order.id

    @property
    def expires_at(self) -> float | None:
        if self.claimed_at is None or self.order.timeout_seconds is None:
            return None
        return self.claimed_at + self.order.timeout_seconds


# --- events: wishes of the server ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The server wants it (again)."""

    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwanted:
    """The server, or the operator who stops the worker, wants it gone."""

    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The server knows that it has terminated."""


# --- events: facts that effects bring ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    handle: Handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    attachment: Attachment


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """PID 1 has ended."""

    exit: Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhealthy:
    """The guest has not answered for as long as a guest may not answer."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An effect could not be done. `operation` is the name of its class in lower case."""

    operation: str
    why: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What the driver knows of it after a restart; `found` absent: nothing."""

    found: Found | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """The time of an earlier `Wake` has come."""


Event: TypeAlias = (
    Wanted
    | Unwanted
    | Delivered
    | Created
    | Started
    | Admitted
    | Released
    | Exited
    | Unhealthy
    | Failed
    | Removed
    | Surveyed
    | Woken
)


# --- effects: what the world should do next ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    handle: Handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    attachment: Attachment
    policy: NetworkPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Connect to the guest and let it go, with all that it may now know."""

    attachment: Attachment
    order: Order
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Wait for PID 1 to end. Runs beside the lane; a later one takes its place."""

    handle: Handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask after the guest's health from now on. Runs beside the lane; a later one takes its place.
    Not while it starts: that has a deadline already."""

    attachment: Attachment


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Ask the guest to end in order."""

    handle: Handle
    attachment: Attachment


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    handle: Handle | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Tell the proxy how the container stands."""

    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Bring a `Woken` at a time in seconds since the epoch. A later one takes its place."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """Cancel what the lane does and drop what waits in it: it is moot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportStarted:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTerminated:
    why: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Drop the record: nobody needs it any more."""


Effect: TypeAlias = (
    Create
    | Start
    | Admit
    | Release
    | Watch
    | Ask
    | Halt
    | Revoke
    | Remove
    | Publish
    | Wake
    | Abandon
    | ReportStarted
    | ReportTerminated
    | Forget
)
