"""What the server knows: plain frozen data, shared by the store, the scheduler and both fronts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MIB: Final = 1024 * 1024


class SandboxStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    TERMINATED = "terminated"


class ContainerStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    TERMINATED = "terminated"


class PendingReason(StrEnum):
    SCHEDULING = "scheduling"
    WAITING_FOR_CONTAINER = "waiting_for_container"
    NO_EXECUTORS_AVAILABLE = "no_executors_available"
    NO_RESOURCES_AVAILABLE = "no_resources_available"


class TerminationReason(StrEnum):
    """Why a container ended, in the words that callers read inside an outcome."""

    UNKNOWN = "Unknown"
    STARTUP_FAILED_INTERNAL_ERROR = "StartupFailedInternalError"
    STARTUP_FAILED_FUNCTION_ERROR = "StartupFailedFunctionError"
    STARTUP_FAILED_FUNCTION_TIMEOUT = "StartupFailedFunctionTimeout"
    UNHEALTHY = "Unhealthy"
    INTERNAL_ERROR = "InternalError"
    FUNCTION_TIMEOUT = "FunctionTimeout"
    FUNCTION_CANCELLED = "FunctionCancelled"
    OOM = "Oom"
    PROCESS_CRASH = "ProcessCrash"
    STARTUP_FAILED_BAD_IMAGE = "StartupFailedBadImage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    model: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a sandbox asks for, or what an executor has."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpu: Gpu | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRules:
    allow_internet_access: bool = True
    allow_out: tuple[str, ...] = ()
    deny_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDetail:
    """What a worker of Longshore says of a container beyond the shared wire. `None`: not said."""

    image_applied: bool | None = None
    error_message: str | None = None
    error_code: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What the caller asked for."""

    image: str
    resources: Resources
    timeout_secs: int
    """0: never."""
    entrypoint: tuple[str, ...] = ()
    secret_names: tuple[str, ...] = ()
    network: NetworkRules | None = None
    allow_unauthenticated_access: bool = False
    exposed_ports: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRecord:
    """One sandbox. `step` in `sandboxes` is the only place that changes its state."""

    id: str
    namespace: str
    application: str | None = None
    name: str | None = None
    """The caller's own, instead of the id; unique in the namespace while the sandbox lives."""
    created_at_ms: int
    spec: SandboxSpec
    status: SandboxStatus = SandboxStatus.PENDING
    pending_reason: PendingReason | None = PendingReason.SCHEDULING
    outcome: str | None = None
    executor_id: str | None = None
    container_id: str | None = None
    detail: ContainerDetail = ContainerDetail()
    terminated_at_ms: int | None = None

    @property
    def is_live(self) -> bool:
        return self.status is not SandboxStatus.TERMINATED


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedFunction:
    """One entry of an executor's allow-list. `None` stands for any."""

    namespace: str | None = None
    application: str | None = None
    function: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorRecord:
    """A worker, as its last full state described it."""

    id: str
    hostname: str = ""
    version: str = ""
    host: Resources = Resources()
    cpu_count: int = 0
    capacity: Resources = Resources()
    """What it lends to containers."""
    allowed: tuple[AllowedFunction, ...] = ()
    """Empty: everything."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    catalog_entry_name: str | None = None
    proxy_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRecord:
    name: str
    created_at_ms: int
    blob_storage_bucket: str | None = None
    blob_storage_region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A caller's promise that two requests under `key` are one. Unique with its namespace."""

    namespace: str
    key: str
    digest: str
    sandbox_id: str
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedContainer:
    """A container as a full state lists it."""

    container_id: str
    sandbox_id: str | None = None
    """`None`: it is none of a sandbox."""
    status: ContainerStatus
    reason: TerminationReason = TerminationReason.UNKNOWN
    resources: Resources = Resources()


class ExecutorStatus(StrEnum):
    RUNNING = "running"
    DRAINED = "drained"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A container's change of state as a heartbeat brings it. No reason: it has started."""

    container_id: str
    ended: TerminationReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FullState:
    executor: ExecutorRecord
    containers: tuple[ReportedContainer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    executor_id: str
    status: ExecutorStatus = ExecutorStatus.RUNNING
    full_state: FullState | None = None
    reports: tuple[Report, ...] = ()
    details: Mapping[str, ContainerDetail] = field(default_factory=dict[str, ContainerDetail])
    """By container; only from a worker that speaks Longshore's extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddContainer:
    sandbox: SandboxRecord

    @property
    def container_id(self) -> str:
        return self.sandbox.container_id or self.sandbox.id


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveContainer:
    container_id: str


Command = AddContainer | RemoveContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A command in an executor's outbox, until the executor acknowledges it."""

    executor_id: str
    seq: int
    container_id: str
    adds: bool
    """It is an AddContainer."""
    payload: bytes
    """As the wire has it."""
