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
    ContainerId,
    ContainerSpec,
    Exit,
    Facts,
    Found,
    Gap,
    Handle,
    Launch,
    NetworkPolicy,
    Reach,
    Transition,
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
    exit path is its `finally`, shielded, with a deadline of 10 seconds. Both happen in one task, so
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a driver plugin opens. A capability that it lacks is `None`, and stays refused."""

    driver: Driver
    facts: Facts


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
