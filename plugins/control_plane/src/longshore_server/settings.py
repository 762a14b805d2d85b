"""The server's configuration: every key, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from longshore_server import addresses

Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BlobStorage(Section):
    """Where deployed code is kept."""

    path: str = Field(
        default_factory=lambda: f"file://{Path.cwd()}/indexify_storage/blobs",
        description="`file:///directory`; default: below the working directory",
    )
    region: str | None = None

    @field_validator("path")
    @classmethod
    def _is_a_directory(cls, value: str) -> str:
        if not value.startswith("file:///"):
            raise ValueError("must be file:// and an absolute path; no other store is offered")
        return value

    @property
    def directory(self) -> Path:
        return Path(self.path.removeprefix("file://"))


class Tls(Section):
    """TLS for executors. With `client_ca_path`, they must show a certificate of that CA (mTLS)."""

    enabled: bool = False
    cert_path: Path | None = None
    key_path: Path | None = None
    client_ca_path: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.enabled and (self.cert_path is None or self.key_path is None):
            raise ValueError("TLS needs both cert_path and key_path")
        return self


class Telemetry(Section):
    """Where traces and metrics go."""

    enable_metrics: bool = False
    endpoint: str | None = None
    tracing_exporter: Literal["otlp", "stdout"] | None = None
    metrics_interval: int = Field(default=10, gt=0, description="seconds")
    local_log_file: Path | None = None
    instance_id: str | None = None


class CatalogGpu(Section):
    name: str
    count: int = Field(ge=1)


class CatalogEntry(Section):
    """One kind of machine that executors run on."""

    name: str
    cpu_cores: int = Field(ge=1)
    memory_gb: int = Field(ge=1)
    disk_gb: int = Field(ge=1)
    gpu_model: CatalogGpu | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class ServerSettings(Section):
    """Everything that `longshore server --config FILE` reads."""

    env: str = Field(
        default="local", description="`local`: readable logs; anything else: JSON logs"
    )
    state_store_path: str = Field(
        default="./indexify_storage/state",
        description="the directory of the database, or a `sqlite:///` URL",
    )
    listen_addr: str = Field(default="0.0.0.0:8900", description="HTTP")
    listen_addr_grpc: str = Field(default="0.0.0.0:8901", description="executors")
    tls: Tls = Tls()
    blob_storage: BlobStorage = Field(default_factory=BlobStorage)
    default_sandbox_image: str = Field(default="python:3.14-slim", min_length=1)
    default_sandbox_timeout_secs: int = Field(default=600, ge=0, description="0: never")
    sandbox_proxy_domain: str = Field(
        default="127.0.0.1.nip.io", description="a local one: callers reach the worker's proxy"
    )
    sandbox_proxy_scheme: Literal["http", "https"] = "http"
    executor_timeout_secs: Seconds = Field(
        default=30, description="without a word from it, an executor is given up"
    )
    startup_sweep_secs: Seconds = Field(
        default=60, description="how long known executors have to come back after a start"
    )
    long_poll_secs: Seconds = Field(default=300, description="how long a poll is held")
    cluster_vacuum_interval_secs: Seconds = 60
    telemetry: Telemetry = Telemetry()
    executor_catalog: tuple[CatalogEntry, ...] = ()
    queue_size: int = Field(default=1, ge=1)
    snapshot_storage_path: str | None = None
    snapshot_timeout_secs: Seconds = 600
    usage_queue: dict[str, Any] | None = None
    cloud_events: dict[str, Any] | None = None
    kv_storage: dict[str, Any] | None = None
    rocksdb_config: dict[str, Any] | None = None

    @field_validator("listen_addr", "listen_addr_grpc")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        addresses.parse(value)
        return value

    @property
    def without_effect(self) -> list[str]:
        """The keys that were set, are accepted for the sake of old files, and do nothing here."""
        return sorted(self.model_fields_set & _WITHOUT_EFFECT)


_WITHOUT_EFFECT: Final = frozenset({
    "telemetry", "queue_size", "snapshot_storage_path", "snapshot_timeout_secs", "usage_queue",
    "cloud_events", "kv_storage", "rocksdb_config",
})  # fmt: skip
