"""What an operator may say about this driver. Every default is the closed one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from longshore_core.address import EngineAddress
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

OWN: Final = "own"
"""The network that the driver makes by itself."""

_CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL"),
    *("NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"),
)
_LEAST_SUBNET: Final = 28
_MOST_SUBNET: Final = 16


def _capability(name: object) -> object:
    return name.upper().removeprefix("CAP_") if isinstance(name, str) else name


def _subnet(text: str) -> str:
    """Raises ValueError, also for one whose hosts would not fit an interface's name."""
    network = ipaddress.IPv4Network(text)
    if not _MOST_SUBNET <= network.prefixlen <= _LEAST_SUBNET:
        raise ValueError(f"{text} must be /{_MOST_SUBNET} to /{_LEAST_SUBNET}")
    return str(network)


Capability = Annotated[str, BeforeValidator(_capability)]


class LogConfig(BaseModel):
    """Where Podman keeps what PID 1 writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["k8s-file", "journald", "none"] = "k8s-file"
    max_size: ByteSize = ByteSize(10 << 20)
    """A log that grows past it begins anew. Only `k8s-file` heeds it."""


class Config(BaseModel):
    """`driver: {type: podman}`, and what may stand beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: EngineAddress | None = None
    """Where Podman's service listens. Absent: root's socket for root, else the user's own."""

    network: str | None = None
    """`own`: a bridge and namespaces that the driver makes itself, where policies can be put in
    force; it needs root on the engine's host. Else `none`, `host`, `slirp4netns`, `pasta`, or the
    name of a network of Podman's; there, a container with a network policy is refused. Absent:
    `own` where root is, else what Podman does by default."""

    bridge: str = Field(default="longshore-pod", pattern=r"^[a-z][a-z0-9-]{0,13}$")
    """The interface of the driver's own network."""

    subnet: Annotated[str, AfterValidator(_subnet)] = "10.231.0.0/16"
    """The addresses of the driver's own network."""

    dns: tuple[str, ...] = ()
    """Name servers of containers. Empty: the host's, as Podman passes them on."""

    ready_networks: NonNegativeInt | None = None
    """How many network namespaces are kept ready for containers to come, which spares a third of
    their start. Absent: 8 on the driver's own network. 0: each is made when it is needed."""

    runtime: str | None = None
    """The OCI runtime: a name that Podman knows, such as `crun`, `runc` or `runsc`, or a path."""

    platform: str | None = Field(default=None, pattern=r"^linux/[a-z0-9]+(/[a-z0-9]+)?$")
    """What images are pulled for, such as `linux/amd64`. Absent: the engine's own."""

    prepull: tuple[str, ...] = ()
    """Images that are pulled when the worker starts, in the background."""

    pull_timeout_seconds: PositiveFloat = 600.0
    startup_timeout_seconds: PositiveFloat = 60.0
    """How long making and starting a container may take, its image aside."""

    binds: tuple[str, ...] = ()
    """Directories of the host that every container sees: `/host:/container`, read-only unless
    `:rw` follows."""

    gpus: tuple[str, ...] = ()
    """Devices by their CDI names, such as `nvidia.com/gpu=all`, that every container gets."""

    log: LogConfig = LogConfig()

    ulimits: Mapping[str, int] = Field(default_factory=dict[str, int])
    """Ceilings for each process, soft and hard alike: `{core: 0}`. What is absent is as Podman's
    `containers.conf` has it."""

    shm_size: ByteSize = ByteSize(64 << 20)
    pids_limit: PositiveInt = 4096
    """Processes of a container that does not ask for a limit of its own."""

    cap_drop: tuple[Capability, ...] = ("ALL",)
    cap_add: tuple[Capability, ...] = _CAPABILITIES
    """What the root user of a container may. An image with another user gets none of these, except
    those that are named here beside the default ones."""

    no_new_privileges: bool = True
    """False lets programs with a set-user-ID bit take effect."""

    read_only: bool = False
    """Mount images read-only; `/tmp`, `/var/tmp` and `/run` stay writable, in memory."""

    seccomp_profile: str | None = None
    """A path on the engine's host, or `unconfined`. Absent: Podman's own profile."""

    @field_validator("binds")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for bind in value:
            if not re.fullmatch(r"/[^:]*:/[^:]*(:r[ow])?", bind):
                raise ValueError(f"{bind!r} must be /host/path:/container/path, or end in :rw")
        return value

    @field_validator("ulimits")
    @classmethod
    def _known(cls, value: Mapping[str, int]) -> Mapping[str, int]:
        for name in value:
            if name not in _ULIMITS:
                raise ValueError(f"there is no resource limit {name!r}; those are {_ULIMITS}")
        return value

    @property
    def extra_capabilities(self) -> tuple[str, ...]:
        """Those that an operator has added to the default."""
        return tuple(name for name in self.cap_add if name not in _CAPABILITIES)


_ULIMITS: Final = (
    *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
    *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)
