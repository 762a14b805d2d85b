"""What an operator may say about this driver. Whatever loosens a container is said here."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

from longshore_core.address import EngineAddress, TcpAddress, UnixAddress, parse_address
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

GIB: Final = 1 << 30
CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL"),
    *("NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"),
)
"""What images need whose programs change their user, such as package managers. The engine's own
choice has more: raw sockets, device nodes, capabilities on files."""

_SYS_RESOURCE: Final = 24
"""The capability's number, of capability.h."""


class Config(BaseModel):
    """`driver: {type: docker}`, and what may stand beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: EngineAddress | None = None
    """Where the engine listens: `unix:///run/docker.sock` or `tcp://host:port`. Absent: what
    `DOCKER_HOST` says, or `/var/run/docker.sock`."""

    network: str | None = None
    """The engine's network that containers are in, `none` among them. Absent: one of the worker's
    own, in which containers cannot reach each other."""

    host_access: bool = False
    """Whether containers on the worker's own network may open connections to this host, and to
    link-local addresses, where clouds answer what a machine may know."""

    ready_networks: Annotated[int, Field(ge=0, le=256)] = 4
    """How many network namespaces are kept ready: a container that finds one starts in less than
    half the time. Each costs what the engine needs for a container that does nothing. 0: none."""

    runtime: str | None = None
    """The OCI runtime, by the name that the engine knows it by, such as `runsc`."""

    platform: Annotated[str, Field(pattern=r"^linux/[a-z0-9_]+(/[a-z0-9]+)?$")] | None = None
    """Of images, when it is not the engine's own: the host must be able to run their programs."""

    binds: tuple[str, ...] = ()
    """Directories of the host that every container sees: `/host:/container`, `:ro` at the end."""

    tmpfs: Mapping[str, str] = Field(default_factory=dict[str, str])
    """File systems in memory, by their place: `{/tmp: "size=64m"}`."""

    gpus: Literal["all"] | tuple[str, ...] = ()
    """GPUs that every container sees, by the ids that NVIDIA's runtime has for them."""

    log_driver: str = "local"
    log_options: Mapping[str, str] = Field(
        default_factory=lambda: {
            "max-size": "10m",
            "max-file": "3",
            "compress": "true",
            "mode": "non-blocking",
        }
    )
    """What the engine does with the output of PID 1; for a driver of its own choice say both."""

    ulimits: Mapping[str, NonNegativeInt] = Field(default_factory=lambda: default_ulimits())
    """Ceilings for each process, soft and hard alike. Absent: no core dumps, a million files, and
    1 GiB of stack, locked memory and message queues; less where nobody can raise a limit."""

    shm_size: PositiveInt = GIB
    """Of `/dev/shm`, in bytes."""

    pids_limit: PositiveInt = 4096
    """Processes and threads, for a container that asks for no limit of its own."""

    cap_drop: tuple[str, ...] = ("ALL",)
    cap_add: tuple[str, ...] = CAPABILITIES
    """What is left to root in a container, after `cap_drop`."""

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
    """How long the engine may take to make a container, and to start it."""

    @property
    def engine(self) -> UnixAddress | TcpAddress:
        """Where the engine listens, whoever has said so."""
        if self.address is not None:
            return self.address
        return parse_address(os.environ.get("DOCKER_HOST") or "/var/run/docker.sock")

    @property
    def is_local(self) -> bool:
        """Whether the engine sees the files of this host. On a port of this host may listen what
        leads to another one."""
        return isinstance(self.engine, UnixAddress)

    @field_validator("privileged")
    @classmethod
    def _never(cls, value: bool) -> bool:
        if value:
            raise ValueError("no container is privileged; add what it needs with cap_add or binds")
        return value

    @field_validator("network")
    @classmethod
    def _not_the_hosts(cls, value: str | None) -> str | None:
        if value == "host" or (value or "").startswith("container:"):
            raise ValueError(
                f"containers cannot share {value!r}: name a network of the engine, or none"
            )
        return value

    @field_validator("binds")
    @classmethod
    def _whole(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for bind in value:
            parse_bind(bind)
        return value

    @field_validator("ulimits")
    @classmethod
    def _lower_case(cls, value: Mapping[str, NonNegativeInt]) -> Mapping[str, int]:
        for name in value:
            if name != name.lower():
                raise ValueError(f"{name!r} must be written in lower case")
        return value


def default_ulimits() -> dict[str, int]:
    """What sandboxes usually have. A machine that has taken from all its processes the right to
    raise limits could start nothing with more than there is."""
    wanted = {"core": 0, "memlock": GIB, "stack": GIB, "msgqueue": GIB, "nofile": 1_000_000}
    if not _may_raise_limits():
        for name, value in wanted.items():
            _, most = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
            wanted[name] = value if most == resource.RLIM_INFINITY else min(value, most)
    return wanted


def _may_raise_limits() -> bool:
    """Whether root could: what is not in the bounding set, no process can come by."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> _SYS_RESOURCE & 1)
    return True


def parse_bind(text: str) -> tuple[str, str, bool]:
    """The host's path, the container's, and whether it can only be read. Raises ValueError."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    paths = (PurePosixPath(source), PurePosixPath(target))
    if not all(path.is_absolute() for path in paths) or mode not in ("", "ro", "rw"):
        raise ValueError(f"{text!r} must be /host/path:/container/path, with :ro at its end or not")
    return source, target, mode == "ro"
