"""The worker's configuration: every key, its default and what it means.

`docs/configuration.md` is generated from these models.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(BaseModel):
    """A plugin by its entry point's name (`type`); all other keys are the plugin's own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str

    @field_validator("type", mode="before")
    @classmethod
    def _null_is_a_name(cls, value: object) -> object:
        return "null" if value is None else value

    @property
    def options(self) -> dict[str, Any]:
        """What the plugin's own model is to read."""
        return dict(self.model_extra or {})


class Tls(Section):
    """TLS to the server. With both client files, the worker shows a certificate too (mTLS)."""

    enabled: bool = False
    ca_cert_path: Path | None = Field(default=None, description="PEM roots; absent: the system's")
    client_cert_path: Path | None = None
    client_key_path: Path | None = None
    domain_name: str | None = Field(
        default=None, description="the name that the certificate must have"
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if self.enabled and (self.client_cert_path is None) != (self.client_key_path is None):
            raise ValueError("mTLS needs both client_cert_path and client_key_path")
        return self


class Telemetry(Section):
    """Where traces and metrics go."""

    enable_metrics: bool = False
    endpoint: str | None = Field(default=None, description="OTLP endpoint of a collector")
    tracing_exporter: Literal["otlp", "stdout"] | None = None
    metrics_interval: int = Field(default=5, gt=0, description="seconds")
    instance_id: str | None = None


class Upstream(Section):
    """The proxy's connections to sandboxes. All in seconds."""

    idle_timeout_secs: Seconds = 55
    keepalive_idle_secs: Seconds = 30
    keepalive_interval_secs: Seconds = 10
    keepalive_count: int = 3
    connection_timeout_secs: Seconds = 10
    read_timeout_secs: Seconds = 60
    write_timeout_secs: Seconds = 60


class HttpProxy(Section):
    """The proxy that routes HTTP to sandboxes by header."""

    port: Port = 8095
    extra_ports: tuple[Port, ...] = Field(
        default=(),
        description="listened on as well; 9443 is where Tensorlake's clients look on localhost",
    )
    listen_addr: str = "0.0.0.0"
    advertise_address: str | None = Field(
        default=None, description="what clients are told; default `{hostname}:{port}`"
    )
    upstream: Upstream = Upstream()
    middlewares: tuple[Choice, ...] = Field(default=(), description="in call order")

    @property
    def advertised(self) -> str:
        return self.advertise_address or f"{socket.gethostname() or 'localhost'}:{self.port}"


class FunctionExecutor(Section):
    """What runs functions inside containers."""

    code_cache_path: Path = Path("/tmp/indexify_code_cache")
    fe_binary_path: str = "function-executor"


class Monitoring(Section):
    port: Port = 8100
    listen_addr: str = "0.0.0.0"


class ResourceOverrides(Section):
    """What the worker offers, in place of what it finds on the host."""

    cpu_count: int | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    disk_bytes: int | None = Field(default=None, gt=0)


class SnapshotRegistry(Choice):
    """The registry for snapshots; the keys of the built-in `static` one."""

    type: str = "static"
    url: str | None = None
    repository: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    insecure: bool = False

    @property
    def options(self) -> dict[str, Any]:
        return self.model_dump(exclude={"type"}, exclude_unset=True)


class WorkerSettings(Section):
    """Everything that `longshore worker --config FILE` reads."""

    env: str = Field(
        default="local", description="`local`: readable logs; anything else: JSON logs"
    )
    executor_id: str | None = Field(
        default=None, min_length=1, description="absent: generated once and kept in `state_dir`"
    )
    server_addr: str = Field(
        default="http://localhost:8901", description="the server's gRPC address"
    )
    tls: Tls = Tls()
    telemetry: Telemetry = Telemetry()
    driver: Choice | None = Field(default=None, description="sets both of the next two")
    function_driver: Choice | None = None
    sandbox_driver: Choice | None = Field(default=None, description="default `{type: fork_exec}`")
    guest: Choice = Field(
        default=Choice(type="sandbox_daemon"), description="what runs as PID 1 in a sandbox"
    )
    network: Choice = Field(default=Choice(type="open"), description="what enforces network policy")
    secrets: Choice = Field(default=Choice(type="none"), description="what resolves `secret_names`")
    admission: tuple[str, ...] = Field(
        default=(), description="plugins that may veto, in call order"
    )
    snapshot_registry: SnapshotRegistry | None = None
    state_dir: Path = Path("./dataplane-state")
    http_proxy: HttpProxy = HttpProxy()
    daemon_binary_extract_path: Path | None = Field(
        default=None, description="accepted for Indexify's files; the daemon needs no binary here"
    )
    function_executor: FunctionExecutor = FunctionExecutor()
    function_allowlist: tuple[str, ...] = Field(
        default=(), description="`namespace:application:function[:version]`; empty: everything"
    )
    labels: dict[str, str] = Field(default_factory=dict)
    monitoring: Monitoring = Monitoring()
    resource_overrides: ResourceOverrides = ResourceOverrides()
    default_function_image: str | None = None
    on_exit: Literal["keep", "remove"] = Field(
        default="keep", description="whether containers outlive an orderly stop of the worker"
    )
    startup_timeout_secs: Seconds = Field(
        default=60, description="from a started PID 1 to a ready guest"
    )
    stop_grace_secs: Seconds = Field(default=10, description="from the stop signal to SIGKILL")

    @field_validator("server_addr")
    @classmethod
    def _with_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must include a scheme: http:// or https://")
        return value

    @field_validator("function_allowlist")
    @classmethod
    def _three_or_four_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if len(entry.split(":")) not in (3, 4) or not all(entry.split(":")):
                raise ValueError(f"{entry!r} is not namespace:application:function[:version]")
        return value

    @model_validator(mode="after")
    def _one_driver(self) -> Self:
        for name in ("function_driver", "sandbox_driver"):
            other = getattr(self, name)
            if self.driver is not None and other is not None and other != self.driver:
                raise ValueError(f"driver and {name} contradict each other; keep one of them")
        return self

    @property
    def sandboxes(self) -> Choice:
        """The driver for sandboxes, whichever key named it."""
        return self.sandbox_driver or self.driver or Choice(type="fork_exec")
