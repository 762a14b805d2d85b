"""JSON as callers send it and get it.

Two generations of clients are answered at once: each reads its own names out of the union. What a
caller sends beyond these keys is ignored, since newer clients send more; a wrong type never is.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import replace
from typing import Annotated, Any, Final

from longshore_core import JSON, RequestError
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, field_validator

from longshore_server.model import MIB, Gpu, NetworkRules, Resources, SandboxRecord, SandboxSpec
from longshore_server.settings import ServerSettings

# JSON can escape them; an answer cannot hold a lone surrogate, nor a command line a NUL.
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def _storable(value: str) -> str:
    if _UNSTORABLE.search(value):
        raise ValueError("text without NUL and without lone surrogates is wanted")
    return value


_NAME: Final = re.compile("[a-z][a-z0-9-]{0,62}")
_LIKE_AN_ID: Final = re.compile("[a-z0-9]{21}")
_MOST_MB: Final = 2**40
Text = Annotated[str, AfterValidator(_storable)]
Megabytes = Annotated[int, Field(ge=1, le=_MOST_MB)]
Seconds = Annotated[int, Field(ge=0, le=2**53)]
WaitSeconds = Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
GPU_MODELS: Final = ("A100-40GB", "A100-80GB", "H100", "T4", "A6000", "A10")


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class GpuWish(Body):
    count: int = Field(ge=1, le=64)
    model: str

    @field_validator("model")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in GPU_MODELS:
            raise ValueError(f"no GPU model {value!r}; known: {', '.join(GPU_MODELS)}")
        return value


class ResourcesWish(Body):
    cpus: float = Field(default=0.1, gt=0, le=2**20, allow_inf_nan=False)
    memory_mb: Megabytes = 256
    disk_mb: Megabytes = Field(
        default=1024,
        validation_alias=AliasChoices("ephemeral_disk_mb", "disk_mb"),
        description="also as `ephemeral_disk_mb`",
    )
    gpus: list[GpuWish] = Field(default_factory=list[GpuWish], description="the first one counts")


class NetworkWish(Body):
    allow_internet_access: bool = True
    allow_out: list[str] = Field(default_factory=list[str])
    deny_out: list[str] = Field(default_factory=list[str])

    @field_validator("allow_out", "deny_out")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for entry in value:
            try:
                ipaddress.ip_network(entry, strict=False)
            except ValueError as exc:
                raise ValueError(f"{entry!r} is neither an IP address nor a CIDR block") from exc
        return value

    def rules(self) -> NetworkRules:
        return NetworkRules(
            allow_internet_access=self.allow_internet_access,
            allow_out=tuple(self.allow_out),
            deny_out=tuple(self.deny_out),
        )


def _name(value: str) -> str:
    if not _NAME.fullmatch(value) or _LIKE_AN_ID.fullmatch(value):
        raise ValueError(
            "1 to 63 of a-z 0-9 -, a letter first, and not 21 letters and digits as an id has"
        )
    return value


Name = Annotated[str, AfterValidator(_name)]


class CreateSandbox(Body):
    """Every field is optional."""

    name: Name | None = Field(
        default=None, description="to call it by; unique in the namespace while it lives"
    )
    image: Text | None = Field(default=None, min_length=1)
    resources: ResourcesWish | None = None
    timeout_secs: Seconds | None = Field(default=None, description="0: never")
    entrypoint: list[Text] | None = None
    secret_names: list[Text] | None = None
    network: NetworkWish | None = None
    snapshot_id: str | None = None
    allow_unauthenticated_access: bool = Field(
        default=False,
        validation_alias=AliasChoices(
            "allow_unauthenticated_access", "allow_unauthenticated_proxy_access"
        ),
    )
    exposed_ports: list[PortNumber] | None = None
    wait: bool = Field(default=False, description="answer when it runs")
    wait_timeout_secs: WaitSeconds | None = None

    def digest(self, application: str | None) -> str:
        """The same for requests that ask for the same sandbox."""
        wish = self.model_dump_json(exclude={"wait", "wait_timeout_secs"})
        return hashlib.sha256(f"{application or ''}\n{wish}".encode()).hexdigest()

    def spec(self, settings: ServerSettings) -> SandboxSpec:
        """What is asked for, with the server's defaults in place of what is left open."""
        timeout = self.timeout_secs
        network = self.network
        return SandboxSpec(
            image=self.image or settings.default_sandbox_image,
            resources=_resources(self.resources),
            timeout_secs=settings.default_sandbox_timeout_secs if timeout is None else timeout,
            entrypoint=tuple(self.entrypoint or ()),
            secret_names=tuple(self.secret_names or ()),
            network=None if network is None else network.rules(),
            allow_unauthenticated_access=self.allow_unauthenticated_access,
            exposed_ports=None if self.exposed_ports is None else tuple(self.exposed_ports),
        )  # fmt: skip


class UpdateSandbox(Body):
    """What of a sandbox can change. What is left out stays."""

    name: Name | None = None
    allow_unauthenticated_access: bool | None = None
    exposed_ports: list[PortNumber] | None = None
    # These say what it runs with: a worker cannot change them under a running program.
    network: JSON = None
    resources: JSON = None
    timeout_secs: JSON = None
    auto_resume: JSON = None

    def applied_to(self, record: SandboxRecord) -> SandboxRecord:
        """The record with the changes. Raises RequestError for those that are not offered."""
        for key in ("network", "resources", "timeout_secs", "auto_resume"):
            if getattr(self, key) is not None:
                message = f"{key}: this server does not offer changing it while a sandbox lives"
                raise RequestError(501, "UNSUPPORTED_CAPABILITY", message)
        spec = record.spec
        if self.allow_unauthenticated_access is not None:
            spec = replace(spec, allow_unauthenticated_access=self.allow_unauthenticated_access)
        if self.exposed_ports is not None:
            spec = replace(spec, exposed_ports=tuple(self.exposed_ports))
        return replace(record, name=self.name or record.name, spec=spec)


class CreateNamespace(Body):
    name: str
    blob_storage_bucket: Text | None = None
    blob_storage_region: Text | None = None


class GpuInfo(BaseModel):
    count: int
    model: str


class ResourcesInfo(BaseModel):
    cpus: float
    memory_mb: int
    disk_mb: int
    ephemeral_disk_mb: int
    gpus: list[GpuInfo] | None = None


class NetworkInfo(BaseModel):
    allow_internet_access: bool
    allow_out: list[str]
    deny_out: list[str]


class ErrorDetails(BaseModel):
    message: str | None
    code: str | None


class SandboxInfo(BaseModel):
    """A sandbox. What is unknown or unset is left out."""

    id: str
    name: str | None = None
    namespace: str
    application: str | None = None
    image: str
    status: str = Field(description="pending, running or terminated")
    pending_reason: str | None = None
    outcome: str | None = Field(default=None, examples=["Success(Timeout)"])
    created_at: int = Field(description="milliseconds")
    terminated_at: int | None = None
    container_id: str | None = None
    executor_id: str | None = None
    resources: ResourcesInfo
    timeout_secs: int
    entrypoint: list[str] | None = None
    secret_names: list[str] | None = None
    network_policy: NetworkInfo | None = None
    sandbox_url: str | None = None
    allow_unauthenticated_access: bool
    exposed_ports: list[int] | None = None
    image_applied: bool | None = Field(
        default=None, description="false: the worker recorded the image but runs on its own files"
    )
    error_details: ErrorDetails | None = None
    exit_code: int | None = None


class CreatedSandbox(SandboxInfo):
    """The same, with the id under the name that it has in this one answer.

    Clients of one generation take both names for one field, and refuse it when it comes twice.
    """

    id: str = Field(serialization_alias="sandbox_id")


class SandboxList(BaseModel):
    sandboxes: list[SandboxInfo]
    cursor: str | None = Field(default=None, description="of the next page, when there is one")


class SandboxLookup(BaseModel):
    """What a proxy needs to know of a sandbox."""

    id: str
    namespace: str
    status: str
    dataplane_api_address: str | None
    allow_unauthenticated_access: bool
    exposed_ports: list[int] | None


def sandbox_info(
    record: SandboxRecord, proxy_address: str | None, settings: ServerSettings
) -> SandboxInfo:
    """A sandbox as callers see it; `proxy_address` is its executor's."""
    spec, detail = record.spec, record.detail
    network = spec.network
    failed = detail.error_message is not None or detail.error_code is not None
    return SandboxInfo(
        id=record.id,
        name=record.name,
        namespace=record.namespace,
        application=record.application,
        image=spec.image,
        status=record.status,
        pending_reason=record.pending_reason,
        outcome=record.outcome,
        created_at=record.created_at_ms,
        terminated_at=record.terminated_at_ms,
        container_id=record.container_id,
        executor_id=record.executor_id,
        resources=_resources_info(spec.resources),
        timeout_secs=spec.timeout_secs,
        entrypoint=list(spec.entrypoint) or None,
        secret_names=list(spec.secret_names) or None,
        network_policy=None if network is None else _network_info(network),
        sandbox_url=_url(record, proxy_address, settings),
        allow_unauthenticated_access=spec.allow_unauthenticated_access,
        exposed_ports=None if spec.exposed_ports is None else list(spec.exposed_ports),
        image_applied=detail.image_applied,
        error_details=ErrorDetails(message=detail.error_message, code=detail.error_code)
        if failed
        else None,
        exit_code=detail.exit_code,
    )  # fmt: skip


def resources_json(resources: Resources) -> dict[str, Any]:
    """Resources as the operators' routes show them."""
    gpu = resources.gpu
    return {
        "memory_bytes": resources.memory_bytes,
        "disk_bytes": resources.disk_bytes,
        "gpu": gpu and {"count": gpu.count, "model": gpu.model},
    }


def _url(record: SandboxRecord, proxy_address: str | None, settings: ServerSettings) -> str | None:
    domain = settings.sandbox_proxy_domain
    if "127.0.0.1" in domain or "localhost" in domain:
        return f"http://{proxy_address}" if proxy_address and record.is_live else None
    port = ":9443" if domain.endswith((".nip.io", ".sslip.io")) else ""
    return f"{settings.sandbox_proxy_scheme}://{record.id}.{domain}{port}"


def _resources(wish: ResourcesWish | None) -> Resources:
    if wish is None:
        return Resources(cpu_millis=1000, memory_bytes=1024 * MIB, disk_bytes=1024 * MIB)
    gpu = wish.gpus[0] if wish.gpus else None
    return Resources(
        cpu_millis=max(1, round(wish.cpus * 1000)),
        memory_bytes=wish.memory_mb * MIB,
        disk_bytes=wish.disk_mb * MIB,
        gpu=Gpu(model=gpu.model, count=gpu.count) if gpu else None,
    )


def _network_info(rules: NetworkRules) -> NetworkInfo:
    return NetworkInfo(
        allow_internet_access=rules.allow_internet_access,
        allow_out=list(rules.allow_out),
        deny_out=list(rules.deny_out),
    )


def _resources_info(resources: Resources) -> ResourcesInfo:
    gpu = resources.gpu
    disk_mb = resources.disk_bytes // MIB
    return ResourcesInfo(
        cpus=resources.cpu_millis / 1000,
        memory_mb=resources.memory_bytes // MIB,
        disk_mb=disk_mb,
        ephemeral_disk_mb=disk_mb,
        gpus=[GpuInfo(count=gpu.count, model=gpu.model)] if gpu else None,
    )
