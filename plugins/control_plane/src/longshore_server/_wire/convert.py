"""Between the executor API's messages and the server's own words. Pure.

Enums and optional fields of the wire are read leniently: an unknown number counts as UNKNOWN, an
item without what identifies it is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from longshore_proto import executor_api_pb2 as pb

from longshore_server.model import (
    AddContainer,
    AllowedFunction,
    Command,
    ContainerDetail,
    ContainerStatus,
    ExecutorRecord,
    ExecutorStatus,
    FullState,
    Gpu,
    Heartbeat,
    NetworkRules,
    Report,
    ReportedContainer,
    Resources,
    SandboxRecord,
    TerminationReason,
)

_UINT32_MAX: Final = 2**32 - 1

GPU_MODELS: Final[Mapping[str, pb.GPUModel.ValueType]] = MappingProxyType(
    {
        "A100-40GB": pb.GPU_MODEL_NVIDIA_A100_40GB,
        "A100-80GB": pb.GPU_MODEL_NVIDIA_A100_80GB,
        "H100": pb.GPU_MODEL_NVIDIA_H100_80GB,
        "T4": pb.GPU_MODEL_NVIDIA_TESLA_T4,
        "A6000": pb.GPU_MODEL_NVIDIA_A6000,
        "A10": pb.GPU_MODEL_NVIDIA_A10,
    }
)
_GPU_NAMES: Final = {number: name for name, number in GPU_MODELS.items()}
_REASONS: Final = {
    pb.ContainerTerminationReason.Value(f"CONTAINER_TERMINATION_REASON_{reason.name}"): reason
    for reason in TerminationReason
}
_STATUSES: Final = {
    pb.CONTAINER_STATUS_RUNNING: ContainerStatus.RUNNING,
    pb.CONTAINER_STATUS_TERMINATED: ContainerStatus.TERMINATED,
}
_EXECUTOR_STATUSES: Final = {
    pb.EXECUTOR_STATUS_DRAINED: ExecutorStatus.DRAINED,
    pb.EXECUTOR_STATUS_STOPPED: ExecutorStatus.STOPPED,
}


def heartbeat_of(message: pb.HeartbeatRequest, *, extended: bool) -> Heartbeat:
    """A heartbeat; `extended`: the peer speaks Longshore's extension."""
    full_state = message.full_state if message.HasField("full_state") else None
    return Heartbeat(
        executor_id=message.executor_id,
        status=_EXECUTOR_STATUSES.get(message.status, ExecutorStatus.RUNNING),
        full_state=full_state and _full_state(message.executor_id, full_state),
        reports=tuple(_reports(message.command_responses)),
        details=_details(message.longshore.containers) if extended else {},
    )


def encode(seq: int, command: Command) -> bytes:
    """A command as a serialized `Command` message."""
    match command:
        case AddContainer(sandbox=sandbox):
            added = pb.AddContainer(container=_description(sandbox))
            message = pb.Command(seq=seq, add_container=added)
        case _:
            removed = pb.RemoveContainer(container_id=command.container_id)
            message = pb.Command(seq=seq, remove_container=removed)
    return message.SerializeToString()


def commands_reply(payloads: Iterable[bytes]) -> pb.PollCommandsResponse:
    """The reply to a poll, from commands that `encode` made."""
    return pb.PollCommandsResponse(commands=[pb.Command.FromString(one) for one in payloads])


def _full_state(executor_id: str, state: pb.DataplaneStateFullSync) -> FullState:
    total, lent = state.total_resources, state.total_container_resources
    executor = ExecutorRecord(
        id=executor_id,
        hostname=state.hostname,
        version=state.version,
        host=_host_resources(total),
        cpu_count=total.cpu_count,
        capacity=_host_resources(lent if state.HasField("total_container_resources") else total),
        allowed=tuple(_allowed(one) for one in state.allowed_functions),
        labels=dict(state.labels),
        catalog_entry_name=state.catalog_entry_name or None,
        proxy_address=state.proxy_address or None,
    )
    containers = (_container(one) for one in state.container_states if one.description.id)
    return FullState(executor=executor, containers=tuple(containers))


def _container(state: pb.ContainerState) -> ReportedContainer:
    description = state.description
    sandbox_id = description.sandbox_metadata.sandbox_id
    return ReportedContainer(
        container_id=description.id,
        sandbox_id=sandbox_id or None,
        status=_STATUSES.get(state.status, ContainerStatus.PENDING),
        reason=_REASONS.get(state.termination_reason, TerminationReason.UNKNOWN),
        resources=Resources(
            cpu_millis=description.resources.cpu_ms_per_sec,
            memory_bytes=description.resources.memory_bytes,
            disk_bytes=description.resources.disk_bytes,
            gpu=_gpu(description.resources),
        ),
    )


def _reports(responses: Iterable[pb.CommandResponse]) -> Iterator[Report]:
    for response in responses:
        match response.WhichOneof("response"):
            case "container_started" if response.container_started.container_id:
                yield Report(container_id=response.container_started.container_id)
            case "container_terminated" if response.container_terminated.container_id:
                ended = response.container_terminated
                yield Report(
                    container_id=ended.container_id,
                    ended=_REASONS.get(ended.reason, TerminationReason.UNKNOWN),
                )
            case _:
                # Of functions and snapshots, or without an id: nothing that the server could lose.
                continue


def _details(messages: Iterable[pb.ContainerDetail]) -> dict[str, ContainerDetail]:
    return {
        one.container_id: ContainerDetail(
            image_applied=one.image_applied if one.HasField("image_applied") else None,
            error_message=one.error_message or None,
            error_code=one.error_code or None,
            exit_code=one.exit_code if one.HasField("exit_code") else None,
        )
        for one in messages
        if one.container_id
    }


def _description(sandbox: SandboxRecord) -> pb.ContainerDescription:
    spec = sandbox.spec
    timeout_ms = min(spec.timeout_secs * 1000, _UINT32_MAX)
    return pb.ContainerDescription(
        id=sandbox.container_id,
        function=pb.FunctionRef(
            namespace=sandbox.namespace,
            application_name="",
            function_name=sandbox.id,
            application_version="",
        ),
        secret_names=spec.secret_names,
        initialization_timeout_ms=timeout_ms,
        allocation_timeout_ms=timeout_ms,
        resources=_container_resources(spec.resources),
        max_concurrency=1,
        container_type=pb.CONTAINER_TYPE_SANDBOX,
        sandbox_metadata=pb.SandboxMetadata(
            image=spec.image,
            timeout_secs=spec.timeout_secs or None,
            entrypoint=spec.entrypoint,
            network_policy=None if spec.network is None else _policy(spec.network),
            sandbox_id=sandbox.id,
        ),
    )


def _policy(rules: NetworkRules) -> pb.NetworkPolicy:
    return pb.NetworkPolicy(
        allow_internet_access=rules.allow_internet_access,
        allow_out=rules.allow_out,
        deny_out=rules.deny_out,
    )


def _container_resources(resources: Resources) -> pb.ContainerResources:
    gpu = resources.gpu
    return pb.ContainerResources(
        cpu_ms_per_sec=min(resources.cpu_millis, _UINT32_MAX),
        memory_bytes=resources.memory_bytes,
        disk_bytes=resources.disk_bytes,
        gpu=None if gpu is None else pb.GPUResources(count=gpu.count, model=GPU_MODELS[gpu.model]),
    )


def _host_resources(resources: pb.HostResources) -> Resources:
    return Resources(
        cpu_millis=resources.cpu_count * 1000,
        memory_bytes=resources.memory_bytes,
        disk_bytes=resources.disk_bytes,
        gpu=_gpu(resources),
    )


def _gpu(resources: pb.HostResources | pb.ContainerResources) -> Gpu | None:
    name = _GPU_NAMES.get(resources.gpu.model)
    return Gpu(model=name, count=resources.gpu.count) if name and resources.gpu.count else None


def _allowed(entry: pb.AllowedFunction) -> AllowedFunction:
    return AllowedFunction(
        namespace=entry.namespace or None,
        application=entry.application_name or None,
        function=entry.function_name or None,
        version=entry.application_version or None,
    )
