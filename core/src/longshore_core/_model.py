"""The words that the kernel and its plugins share. All frozen, all plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NewType, TypeAlias

from typing_extensions import TypeAliasType

ContainerId = NewType("ContainerId", str)

JSON = TypeAliasType("JSON", "bool | int | float | str | list[JSON] | dict[str, JSON] | None")
"""What JSON can hold. A named alias, since it is recursive."""

PLUGIN_API: tuple[int, int] = (1, 0)
"""The plugin API that this kernel offers: (major, minor)."""


class ContainerKind(StrEnum):
    SANDBOX = "sandbox"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a container may use. `None` means: not limited."""

    cpu_millis: int | None = None
    """Thousandths of a core."""
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    pids: int | None = None


class Limit(StrEnum):
    """The names of the limits that a driver can declare to enforce."""

    CPU = "cpu"
    MEMORY = "memory"
    DISK = "disk"
    PIDS = "pids"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    """Where a container may connect to.

    Precedence: established connections, then `allow_out`, then `deny_out`, then
    `allow_internet_access`. Entries are IP addresses or CIDR blocks. Absent (`None` in a spec)
    means the same as this with its defaults.
    """

    allow_internet_access: bool = True
    allow_out: tuple[str, ...] = ()
    deny_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A read-only directory that a guest needs inside the container.

    A driver with a file system of its own (`Facts.mounts`) mounts `source` at `target`; for one
    without, the guest has put `source` itself into `argv`.
    """

    source: str
    target: str
    digest: str
    """Of the content: `source` never changes under one digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What a driver is asked to make. Identity is `id`, which is unique under one `Host.owner`."""

    id: ContainerId
    kind: ContainerKind = ContainerKind.SANDBOX
    image: str | None = None
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of PID 1 only; nothing secret: an engine shows it to whoever may inspect the container."""
    cwd: str | None = None
    limits: Limits = field(default_factory=Limits)
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    trees: tuple[Tree, ...] = ()
    sockets: bool = False
    """PID 1 wants a directory for Unix sockets.

    The driver makes one that only the container and the worker can enter, tells PID 1 its path in
    the environment as `LONGSHORE_SOCKETS`, and answers with `UnixReach` of the host's side of it.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """What a driver needs to find a container again, also after a restart of the worker.

    Stored as JSON; `state` is the driver's own, `schema` its version of it.
    """

    id: ContainerId
    schema: int = 1
    state: Mapping[str, JSON] = field(default_factory=dict[str, JSON])


@dataclass(frozen=True, slots=True)
class UnixReach:
    """The guest listens on Unix sockets in the directory `path` on this host."""

    path: str


@dataclass(frozen=True, slots=True)
class TcpReach:
    """The guest listens on its TCP ports at `host`."""

    host: str


Reach: TypeAlias = UnixReach | TcpReach


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Facts about a container whose PID 1 runs, held or not."""

    reach: Reach | None = None
    addresses: tuple[str, ...] = ()
    interface: str | None = None
    """The host's side of its network: what an enforcer matches, since addresses can be forged."""
    netns: str | None = None
    image_applied: bool = True
    """False: the image was accepted and recorded, but the container sees the host's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How PID 1 ended. `code` and `signal` both `None`: it ended unseen."""

    code: int | None = None
    signal: int | None = None
    oom: bool = False


class Phase(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A container that a driver knows of and that bears this worker's mark."""

    id: ContainerId
    handle: Handle
    phase: Phase
    attachment: Attachment | None = None
    """Present while `phase` is RUNNING."""
    exit: Exit | None = None
    """Present when `phase` is EXITED."""


class NetworkMode(Enum):
    """Where an enforcer can take hold of a driver's containers."""

    NONE = "none"
    """Nowhere: they share the host's network, or have none at all."""
    BRIDGE = "bridge"
    NETNS = "netns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a driver can do. Declared must work; undeclared is refused, never downgraded."""

    limits: frozenset[Limit] = frozenset()
    programs: bool = True
    """`ContainerSpec.argv` is run. False: containers are records, for trying the rest."""
    sockets: bool = True
    """`ContainerSpec.sockets` is granted."""
    recovers: bool = False
    """Containers outlive the driver, and the next one under their owner finds them. False: they
    end when it is closed."""
    images: bool = True
    """Containers have the image's file system."""
    mounts: bool = True
    """`ContainerSpec.trees` are mounted where they say."""
    network: NetworkMode = NetworkMode.NONE
    tty: bool = False
    live_snapshot: bool = False
    pause_with_memory: bool = False
    create_seconds: float = 600.0
    """After which it gives up a `create` by itself, the pull of an image included. The kernel
    allows a little more."""
    start_seconds: float = 60.0
    """The same for `start`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What `go` brings to a held guest: all that must not show in the container's description."""

    token: str = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """For user processes: secrets included."""
    entrypoint: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of a container's state, as observers see it."""

    seq: int
    """Counts from 1 without holes while the worker lives."""
    container: ContainerId
    before: str
    after: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Transitions that a slow observer has missed: `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far the pull of an image has come."""

    reference: str
    done_bytes: int = 0
    total_bytes: int | None = None
    """`None` until the engine knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """An engine at one moment."""

    healthy: bool
    reason: str = ""
    """Why it is not healthy, as a sentence for the operator."""
    engine: str = ""
    """Name and version, such as `Docker 20.10.24`; empty while it has never answered."""
    free: Limits = field(default_factory=Limits)
    """What it could still give; `None` where it cannot tell."""
    images: tuple[str, ...] = ()
    """References of the images that start without a pull, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a container uses. `None` where the engine cannot tell."""

    cpu_seconds: float | None = None
    """Since it was started."""
    memory_bytes: int | None = None
    pids: int | None = None


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that a process wrote, and from which position of both its streams together."""

    stream: Stream
    offset: int
    data: bytes
