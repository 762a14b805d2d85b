"""What an operator may say about this driver. Every default is the closed one."""

from __future__ import annotations

import ipaddress
import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from longshore_core.address import EngineAddress, TcpAddress, UnixAddress, parse_address
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
    TypeAdapter,
    field_validator,
)

GIB: Final = 1 << 30
CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL"),
    *("NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"),
)
"""What root in a container keeps: enough to install packages and to become another user."""

_SYSTEM_SOCKET: Final = "/run/podman/podman.sock"
_CAP_SYS_RESOURCE: Final = 24
_MOST_PROCESSES: Final = 1 << 15
_LARGEST_SUBNET: Final = 16
_SMALLEST_SUBNET: Final = 28
_SIZE: Final = TypeAdapter(ByteSize)


def default_ulimits() -> dict[str, int]:
    """What sandboxes usually have. A machine that has taken from all its processes the right to
    raise limits could start nothing with more than there is."""
    wanted = {
        "core": 0,
        "memlock": GIB,
        "stack": GIB,
        "msgqueue": GIB,
        "nofile": 1_000_000,
        "nproc": _MOST_PROCESSES,
    }
    if not _may_raise_limits():
        for name, value in wanted.items():
            _, most = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
            wanted[name] = value if most == resource.RLIM_INFINITY else min(value, most)
    return wanted


def _may_raise_limits() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line for line in lines if line.startswith("CapEff:")).split()[1]
    return bool(int(effective, 16) >> _CAP_SYS_RESOURCE & 1)


def _capability(name: object) -> object:
    return name.upper().removeprefix("CAP_") if isinstance(name, str) else name


def _subnet(text: str) -> str:
    network = ipaddress.IPv4Network(text)
    if not _LARGEST_SUBNET <= network.prefixlen <= _SMALLEST_SUBNET:
        raise ValueError(f"{text} must be a /{_LARGEST_SUBNET} to a /{_SMALLEST_SUBNET}")
    return str(network)


Capability = Annotated[str, BeforeValidator(_capability)]


class Config(BaseModel):
    """`driver: {type: podman}`, and what may stand beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: EngineAddress | None = None
    """Where Podman's service listens: `unix:///run/podman/podman.sock` or `tcp://host:port`.
    Absent: what `CONTAINER_HOST` says, or root's socket for root, or the user's own."""

    network: str | None = None
    """A network of Podman's that containers are in; `none`, `slirp4netns` and `pasta` among them.
    Absent: one of the worker's own, in which containers cannot reach each other, where worker and
    Podman are root on one host; elsewhere, what Podman does by default."""

    bridge: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,13}$")] = "longshore-pod"
    """The interface of the worker's own network."""

    subnet: Annotated[str, AfterValidator(_subnet)] = "10.231.0.0/16"
    """The addresses of the worker's own network."""

    host_access: bool = False
    """Whether containers on the worker's own network may open connections to this host, and to
    link-local addresses, where clouds answer what a machine may know. It holds for all that is on
    the bridge: another worker of this host that is to have it otherwise needs another `bridge` and
    `subnet`."""

    dns: tuple[str, ...] = ()
    """Name servers of containers. Empty: the host's, as Podman passes them on."""

    ready_networks: Annotated[int, Field(ge=0, le=256)] = 8
    """How many network namespaces are kept ready on the worker's own network, which costs next to
    nothing. 0: each is made when it is needed."""

    runtime: str | None = None
    """The OCI runtime, by the name that Podman knows it by, such as `crun` or `runsc`."""

    platform: Annotated[str, Field(pattern=r"^linux/[a-z0-9_]+(/[a-z0-9]+)?$")] | None = None
    """Of images, when it is not the engine's own: the host must be able to run their programs."""

    binds: tuple[str, ...] = ()
    """Directories of the host that every container sees: `/host:/container`, `:ro` at the end."""

    tmpfs: Mapping[str, str] = Field(default_factory=dict[str, str])
    """File systems in memory, by their place: `{/tmp: "size=64m"}`."""

    gpus: Literal["all"] | tuple[str, ...] = ()
    """GPUs that every container sees, by the names that NVIDIA's CDI file has for them."""

    log_driver: Literal["k8s-file", "journald", "none"] = "k8s-file"
    log_options: Mapping[str, str] = Field(default_factory=lambda: {"max-size": "10MiB"})
    """What Podman does with the output of PID 1. A file that grows past `max-size` begins anew."""

    ulimits: Mapping[str, NonNegativeInt] = Field(default_factory=default_ulimits)
    """Ceilings for each process, soft and hard alike. Absent: no core dumps, a million files, and
    1 GiB of stack, locked memory and message queues; less where nobody can raise a limit."""

    shm_size: PositiveInt = GIB
    """Of `/dev/shm`, in bytes."""

    pids_limit: PositiveInt = 4096
    """Processes and threads, for a container that asks for no limit of its own."""

    cap_drop: tuple[Capability, ...] = ("ALL",)
    cap_add: tuple[Capability, ...] = CAPABILITIES
    """What is left to root in a container, after `cap_drop`. Under an image's own user nothing is
    left, except what is named here beside the defaults."""

    no_new_privileges: bool = True
    """Whether `setuid` programs do nothing: set it to false for images that need `sudo`."""

    read_only: bool = False
    """Whether the image's file system cannot be written to."""

    privileged: bool = False
    """There is no such thing: true is refused."""

    prepull: tuple[str, ...] = ()
    """Images that are pulled when the driver opens, so that nobody waits for them later."""

    pull_timeout_seconds: PositiveFloat = 600.0
    startup_timeout_seconds: PositiveFloat = 60.0
    """How long Podman may take to make a container, and to start it."""

    @property
    def engine(self) -> UnixAddress | TcpAddress:
        """Where the engine listens, whoever has said so."""
        if self.address is not None:
            return self.address
        usual = _SYSTEM_SOCKET
        if os.geteuid():
            runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
            usual = f"{runtime}/podman/podman.sock"
        return parse_address(os.environ.get("CONTAINER_HOST") or usual)

    @property
    def log_size(self) -> int | None:
        """Of a log in a file, in bytes."""
        size = self.log_options.get("max-size")
        return None if size is None else int(_SIZE.validate_python(size))

    @field_validator("privileged")
    @classmethod
    def _never(cls, value: bool) -> bool:
        if value:
            raise ValueError("no container is privileged; add what it needs with cap_add or binds")
        return value

    @field_validator("network")
    @classmethod
    def _not_the_hosts(cls, value: str | None) -> str | None:
        if value == "host" or (value or "").startswith(("container:", "ns:")):
            raise ValueError(f"{value!r} would let containers into a network that is not theirs")
        return value

    @field_validator("log_options")
    @classmethod
    def _size(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if "max-size" in value:
            _SIZE.validate_python(value["max-size"])
        return value

    @field_validator("binds")
    @classmethod
    def _two_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for bind in value:
            if not re.fullmatch(r"/[^:]*:/[^:]*(:r[ow])?", bind):
                raise ValueError(f"{bind!r} must be /host/path:/container/path, or end in :ro")
        return value

    @field_validator("ulimits")
    @classmethod
    def _known(cls, value: Mapping[str, int]) -> Mapping[str, int]:
        for name in value:
            if name != name.lower() or not hasattr(resource, f"RLIMIT_{name.upper()}"):
                raise ValueError(f"there is no resource limit named {name!r}")
        return value
