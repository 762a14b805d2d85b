"""The seams: what a plugin opens, and what the kernel asks of it.

Everything here is asked through one adapter, which gives each call a deadline and turns whatever a
plugin raises into a `PluginCrash` that names its distribution. Raise `BackendError` and its kin for
what the world does to you; anything else is taken for your bug.

A Protocol here never gains a method. New abilities arrive as fields of `Runtime` with a `None`
default, so that a plugin written today stays valid.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from longshore_core._heads import Flow as Flow
from longshore_core._heads import Headers as Headers
from longshore_core._heads import Layer as Layer
from longshore_core._heads import Outcome as Outcome
from longshore_core._heads import RequestHead as RequestHead
from longshore_core._heads import ResponseHead as ResponseHead
from longshore_core._model import (
    Attachment,
    Chunk,
    ContainerId,
    ContainerSpec,
    Exit,
    Facts,
    Fingerprint,
    Found,
    Gap,
    Handle,
    Launch,
    NetworkPolicy,
    PullProgress,
    Reach,
    Transition,
    Usage,
)

if TYPE_CHECKING:
    import logging

    from pydantic import BaseModel

ConfigT = TypeVar("ConfigT", bound="BaseModel")
ThingT = TypeVar("ThingT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the kernel lends to a plugin. Nothing in it leads back into the kernel."""

    name: str
    """The plugin's name, as the config has it."""
    owner: str
    """Marks what this worker made: its executor id and the slot of the config that it fills."""
    state_dir: Path
    """A directory of this plugin's own, kept over restarts; it exists."""
    logger: logging.Logger
    transitions: Callable[[], AbstractAsyncContextManager[AsyncIterator[Transition | Gap]]]
    """A bounded subscription: what a slow reader misses arrives as one `Gap`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug(Generic[ConfigT, ThingT]):
    """A config model, and how to open a backend from it.

    The model is pydantic's; `type` is the entry point's name and never reaches it. `open` is
    entered once, before the worker takes work, with a deadline of 120 seconds, and left last: its
    exit path is its `finally`, shielded, with a deadline of 30 seconds. Both happen in one task, so
    it may hold a task group open; what fails in there ends the worker, which names the plugin.
    """

    config: type[ConfigT]
    open: Callable[[ConfigT, Host], AbstractAsyncContextManager[ThingT]]
    api: tuple[int, int] = (1, 0)
    """The least plugin API that it needs: same major, minor at most the kernel's."""


class Driver(Protocol):
    """Runs containers. Each method may be cancelled, and may be called again after a restart."""

    @abstractmethod
    async def create(self, spec: ContainerSpec) -> Handle:
        """Make the container under `spec.id` and the host's owner; nothing of it runs yet.

        The same id again answers with the same handle. Failed or cancelled, it leaves nothing.
        Raises ImageError, CapacityExhausted, EngineUnavailable.
        """
        ...

    @abstractmethod
    async def start(self, handle: Handle) -> Attachment:
        """Run PID 1, and say where it can be reached. Started already: the same answer again.

        Raises BackendError; then PID 1 does not run.
        """
        ...

    @abstractmethod
    async def wait(self, handle: Handle) -> Exit:
        """Wait for PID 1 to end. Any number may wait; a cancelled waiter disturbs no other.

        Raises EngineUnavailable, or another retryable error, to be asked again.
        """
        ...

    @abstractmethod
    async def signal(self, handle: Handle, signal: Signals) -> None:
        """Send PID 1 a signal. An ended or removed container swallows it."""
        ...

    @abstractmethod
    async def remove(self, handle: Handle) -> None:
        """End whatever runs and leave nothing: from any phase, any number of times."""
        ...

    @abstractmethod
    async def survey(self) -> Sequence[Found]:
        """Find all containers that bear the host's owner, and no others.

        Raises EngineUnavailable rather than answer with less than there is.
        """
        ...


class ImageStore(Protocol):
    """The images that a driver's engine keeps."""

    @abstractmethod
    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        """Have `reference` on the engine, pulled when it is not there.

        Any number may ask for the same one at once: it is pulled once, everybody hears of its
        progress, and it is abandoned when the last asker is cancelled. Raises ImageError for what
        pulling again cannot mend (no such image, denied, another platform), EngineUnavailable.
        """
        ...


class HealthStream(Protocol):
    """What a driver's engine is, and how it does."""

    @abstractmethod
    def fingerprints(self) -> AbstractAsyncContextManager[AsyncIterator[Fingerprint]]:
        """Follow the engine: the first within a second, also when it is down; then one whenever
        it goes, comes back or changes. Never ends by itself, never raises for the engine's sake."""
        ...


class Pauser(Protocol):
    """Stops containers in their tracks, memory kept, and lets them go on."""

    @abstractmethod
    async def pause(self, handle: Handle) -> None:
        """Freeze each process of it. Paused already: the same. Raises BackendError."""
        ...

    @abstractmethod
    async def resume(self, handle: Handle) -> None:
        """Let it go on where it was. Not paused: nothing. Raises BackendError."""
        ...


class Meter(Protocol):
    """Measures what containers use."""

    @abstractmethod
    async def usage(self, handle: Handle) -> Usage:
        """What it uses now. Raises BackendError when it does not run."""
        ...


class LogStore(Protocol):
    """What PID 1 wrote, as the engine keeps it."""

    @abstractmethod
    def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """Read from byte `offset` of both streams together, in the order of arrival.

        `follow` goes on until PID 1 has ended. Raises BackendError.
        """
        ...


class Running(Protocol):
    """A process that was started beside PID 1. Leaving its context ends it."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write to its standard input. Raises BackendError when it takes no more."""
        ...

    @abstractmethod
    async def send_eof(self) -> None:
        """Close its standard input. Idempotent."""
        ...

    @abstractmethod
    def output(self) -> AsyncIterator[Chunk]:
        """What it writes, from the beginning, until it has ended. Once."""
        ...

    @abstractmethod
    async def wait(self) -> int:
        """Its exit code; above 128, the number of the signal that ended it and 128."""
        ...


class Executor(Protocol):
    """Starts processes in containers by the engine's own means, without the guest's help."""

    @abstractmethod
    def run(
        self, handle: Handle, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None
    ) -> AbstractAsyncContextManager[Running]:
        """Start `argv` in a running container. Raises BackendError when it does not start."""
        ...


@dataclass(eq=False, slots=True, kw_only=True)
class Runtime:
    """What a driver plugin opens. A capability that it lacks is `None`, and is refused.

    A driver that could not ask its engine declares every limit that it may have to keep, and what
    holds once the engine has answered: facts and capabilities may be replaced.
    """

    driver: Driver
    facts: Facts
    images: ImageStore | None = None
    """`None`: `Driver.create` sees to the image by itself."""
    health: HealthStream | None = None
    pause: Pauser | None = None
    usage: Meter | None = None
    logs: LogStore | None = None
    exec: Executor | None = None


class NetworkEnforcer(Protocol):
    """Puts network policy in force. Opening it closes the network that the driver must use."""

    @abstractmethod
    async def admit(
        self, container: ContainerId, attachment: Attachment, policy: NetworkPolicy
    ) -> None:
        """Put `policy` in force, atomically, before the container's first instruction.

        Called again after a restart with the same policy. Raises NetworkPolicyError; then the
        container does not run.
        """
        ...

    @abstractmethod
    async def revoke(self, container: ContainerId) -> None:
        """Take back whatever was put in force for it. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    username: str
    password: str = field(repr=False)


class Registry(Protocol):
    """Names, authorises and deletes snapshot images. The driver moves the bytes."""

    @abstractmethod
    def reference(self, sandbox: str, snapshot: str) -> str:
        """The image reference under which a snapshot is kept. Pure."""
        ...

    @abstractmethod
    def owns(self, reference: str) -> bool:
        """Whether an image reference points into this registry. Pure."""
        ...

    @abstractmethod
    async def credentials(self) -> Credentials | None:
        """What to log in with; `None` for an anonymous registry. Raises RegistryError."""
        ...


class Session(Protocol):
    """A connection to one guest. Each call has a deadline and raises GuestError when it fails."""

    @abstractmethod
    async def health(self) -> None:
        """Return when the guest answers that it is well; raise GuestError when it is not."""
        ...

    @abstractmethod
    async def go(self, launch: Launch) -> None:
        """Release a held guest. The same launch again is answered the same way."""
        ...

    @abstractmethod
    async def stop(self) -> None:
        """Ask the guest to end its processes, in order, and then itself. Does not wait for it."""
        ...

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of the connection. The guest lives on."""
        ...


class Guest(Protocol):
    """What runs as PID 1. Drivers do not know which."""

    @abstractmethod
    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        """Complete a spec: argv, environment, trees, sockets. Pure: the same in, the same out."""
        ...

    @abstractmethod
    async def connect(self, reach: Reach) -> Session:
        """Connect to a guest that starts up now. Raises GuestError when it does not in time."""
        ...


class SecretsProvider(Protocol):
    """Resolves the names of secrets."""

    @abstractmethod
    async def fetch(self, namespace: str, names: Sequence[str]) -> Mapping[str, str]:
        """Values by name, for the environment of user processes. Raises BackendError when one
        of `names` cannot be had: a container never starts with less than it asked for."""
        ...


AnyPlug: TypeAlias = Plug[Any, Any]
