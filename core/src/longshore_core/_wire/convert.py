"""Between the wire's messages and the machine's words.

Message and field meanings: Indexify's executor API, as in `proto/protos/executor_api.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from longshore_proto import executor_api_pb2 as pb

from longshore_core._errors import KernelBug, RequestError
from longshore_core._machine.life import (
    Container,
    Ending,
    Order,
    Running,
    Stopping,
    Terminated,
    TerminationReason,
)
from longshore_core._machine.reports import (
    AllocationFailed,
    ContainerStarted,
    ContainerTerminated,
    Report,
    SnapshotFailed,
)
from longshore_core._model import ContainerId, ContainerKind, Limits, NetworkPolicy

STATUS_RUNNING: Final = pb.EXECUTOR_STATUS_RUNNING
STATUS_STOPPED: Final = pb.EXECUTOR_STATUS_STOPPED


class Malformed(RequestError):
    """A command that cannot be understood. `reason` is the wire's word for it, for metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(400, "INVALID_REQUEST", message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What full state says of this worker, apart from its containers."""

    hostname: str
    version: str
    cpu_count: int
    memory_bytes: int
    disk_bytes: int
    proxy_address: str
    labels: dict[str, str]
    allowlist: tuple[str, ...] = ()


def order_of(description: pb.ContainerDescription) -> Order:
    """Read a description once. Raises Malformed; the id may be there all the same."""
    if not description.id:
        raise Malformed("invalid_add_container", "the container has no id")
    sandbox = description.sandbox_metadata
    function = description.container_type == pb.CONTAINER_TYPE_FUNCTION
    resources = description.resources
    policy = sandbox.network_policy
    return Order(
        id=ContainerId(description.id),
        kind=ContainerKind.FUNCTION if function else ContainerKind.SANDBOX,
        description=description.SerializeToString(deterministic=True),
        namespace=description.function.namespace,
        application_version=description.function.application_version,
        pool_id=description.pool_id,
        sandbox_id=sandbox.sandbox_id or None,
        image=sandbox.image or None,
        entrypoint=tuple(sandbox.entrypoint),
        secret_names=tuple(description.secret_names),
        timeout_seconds=float(sandbox.timeout_secs) if sandbox.HasField("timeout_secs") else None,
        limits=Limits(
            cpu_millis=resources.cpu_ms_per_sec or None,
            memory_bytes=resources.memory_bytes or None,
            disk_bytes=resources.disk_bytes or None,
        ),
        policy=NetworkPolicy(
            allow_internet_access=policy.allow_internet_access
            if policy.HasField("allow_internet_access")
            else True,
            allow_out=tuple(policy.allow_out),
            deny_out=tuple(policy.deny_out),
        ),
    )


def amended(order: Order, sandbox: pb.SandboxMetadata) -> Order:
    """An order with its sandbox metadata replaced, as a claim of a warm container does."""
    description = description_of(order)
    description.sandbox_metadata.CopyFrom(sandbox)
    return order_of(description)


def description_of(order: Order) -> pb.ContainerDescription:
    """The description as the server sent it, fields that we do not know included."""
    try:
        return pb.ContainerDescription.FromString(order.description)
    except DecodeError as exc:
        raise KernelBug(f"the stored description of {order.id} cannot be decoded") from exc


def nameless(id_: str, description: pb.ContainerDescription) -> Order:
    """What is left of a description that could not be understood: enough to refuse it."""
    raw = description.SerializeToString(deterministic=True)
    return Order(id=ContainerId(id_), description=raw)


def state_of(container: Container) -> pb.ContainerState:
    """One container in full state."""
    state = pb.ContainerState(description=description_of(container.order))
    match container.life:
        case Running() | Stopping():
            state.status = pb.CONTAINER_STATUS_RUNNING
        case Terminated(why=why):
            state.status = pb.CONTAINER_STATUS_TERMINATED
            state.termination_reason = reason_of(why.reason)
        case _:
            state.status = pb.CONTAINER_STATUS_PENDING
    return state


def detail_of(container: Container) -> pb.ContainerDetail:
    """What the extension adds about one container."""
    detail = pb.ContainerDetail(container_id=container.id)
    match container.life:
        case Running(attachment=attachment) | Stopping(attachment=attachment):
            detail.image_applied = attachment.image_applied
        case Terminated(why=why):
            _fill_ending(detail, why)
        case _:
            pass
    return detail


def ended_detail(report: ContainerTerminated) -> pb.ContainerDetail:
    """What the extension adds about a container that may be forgotten by now."""
    detail = pb.ContainerDetail(container_id=report.container)
    _fill_ending(detail, report.why)
    return detail


def full_state(host: Host, containers: Iterable[Container]) -> pb.DataplaneStateFullSync:
    """Everything that a server needs to know a worker."""
    resources = pb.HostResources(
        cpu_count=host.cpu_count, memory_bytes=host.memory_bytes, disk_bytes=host.disk_bytes
    )
    return pb.DataplaneStateFullSync(
        hostname=host.hostname,
        version=host.version,
        total_resources=resources,
        total_container_resources=resources,
        allowed_functions=[_allowed(entry) for entry in host.allowlist],
        labels=host.labels,
        proxy_address=host.proxy_address,
        container_states=[state_of(container) for container in containers],
    )


def add_report(request: pb.HeartbeatRequest, report: Report) -> int:
    """Append one report to a heartbeat; the answer is its size on the wire, in bytes."""
    if isinstance(report, AllocationFailed):
        outcome = pb.AllocationOutcome(failed=_allocation(report))
        request.allocation_outcomes.append(outcome)
        return outcome.ByteSize()
    response = _response(report)
    request.command_responses.append(response)
    return response.ByteSize()


def _response(
    report: ContainerStarted | ContainerTerminated | SnapshotFailed,
) -> pb.CommandResponse:
    match report:
        case ContainerStarted(container=id_):
            return pb.CommandResponse(container_started=pb.ContainerStarted(container_id=id_))
        case ContainerTerminated(container=id_, why=why):
            terminated = pb.ContainerTerminated(container_id=id_, reason=reason_of(why.reason))
            return pb.CommandResponse(container_terminated=terminated)
        case SnapshotFailed(container=id_, snapshot=snapshot, message=message):
            failed = pb.SnapshotFailed(
                container_id=id_, snapshot_id=snapshot, error_message=message
            )
            return pb.CommandResponse(snapshot_failed=failed)


def reason_of(reason: TerminationReason) -> pb.ContainerTerminationReason.ValueType:
    """The wire's number for a reason."""
    return pb.ContainerTerminationReason.Value(f"CONTAINER_TERMINATION_REASON_{reason.value}")


def unsupported_function(order: Order) -> Ending:
    """Why a function container is refused: no guest for functions is installed."""
    return Ending(
        reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR,
        message=f"this worker runs sandboxes; no guest for functions is installed ({order.id})",
        code="UNSUPPORTED_CAPABILITY",
    )


def allocation_refused(allocation: pb.Allocation) -> AllocationFailed:
    """The outcome of an allocation whose container this worker does not have."""
    function = allocation.function
    return AllocationFailed(
        allocation=allocation.allocation_id,
        container=ContainerId(allocation.container_id),
        function=(function.namespace, function.application_name, function.function_name),
        function_call=allocation.function_call_id,
        request=allocation.request_id,
    )


def _fill_ending(detail: pb.ContainerDetail, why: Ending) -> None:
    detail.error_message = why.message
    if why.code is not None:
        detail.error_code = why.code
    if why.exit is not None and why.exit.code is not None:
        detail.exit_code = why.exit.code


def _allocation(report: AllocationFailed) -> pb.AllocationFailed:
    namespace, application, function = report.function
    return pb.AllocationFailed(
        allocation_id=report.allocation,
        reason=pb.ALLOCATION_FAILURE_REASON_CONTAINER_TERMINATED,
        function=pb.FunctionRef(
            namespace=namespace, application_name=application, function_name=function
        ),
        function_call_id=report.function_call,
        request_id=report.request,
        container_id=report.container,
    )


def _allowed(entry: str) -> pb.AllowedFunction:
    namespace, application, function, *version = entry.split(":")
    return pb.AllowedFunction(
        namespace=namespace,
        application_name=application,
        function_name=function,
        application_version=version[0] if version else None,
    )
