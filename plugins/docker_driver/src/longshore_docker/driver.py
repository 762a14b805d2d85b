"""The driver. Its memory is the engine: whatever it says, it looks up when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from signal import Signals
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    ContainerSpec,
    EngineUnavailable,
    Exit,
    Found,
    Handle,
    Host,
    Phase,
    UnixReach,
)
from longshore_core.abc import Driver

from longshore_docker.answers import Container, Image
from longshore_docker.config import Config
from longshore_docker.endings import ending, is_doubtful
from longshore_docker.engine import Engine, Refused
from longshore_docker.events import Events
from longshore_docker.images import Images
from longshore_docker.networks import Network, Networks, attachment_of
from longshore_docker.sockets import ACCOUNTS, Sockets, content, ids
from longshore_docker.specification import (
    CONTAINER,
    OWNER,
    SOCKETS_PLACE,
    SPEC,
    Place,
    Placed,
    check,
    describe,
    digest,
    name_of,
    refuse_foreign,
    refuse_unkept,
)
from longshore_docker.together import together

ResultT = TypeVar("ResultT")

SCHEMA: Final = 1
"""Of our handles. They name a container, and the engine knows the rest."""

_UNDO_SECONDS: Final = 30
_AT_ONCE: Final = 8
"""How many containers a survey looks at at a time."""
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_SERVER_ERROR: Final = 500
_GONE_SECONDS: Final = 10.0


@dataclass(slots=True, weakref_slot=True)
class _Seat:
    """What calls about one container share, for as long as there are any."""

    turn: anyio.Lock = field(default_factory=anyio.Lock)
    """Of `create`, `start` and `remove`, which must not meet."""
    exit: Exit | None = None
    """Left by `remove` to those who still wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """What the driver works with."""

    engine: Engine
    events: Events
    images: Images
    networks: Networks
    sockets: Sockets


class DockerDriver(Driver):
    """Runs containers on a Docker engine. They outlive it."""

    def __init__(self, config: Config, host: Host, edges: Edges) -> None:
        self._config = config
        self._owner = host.owner
        self._engine = edges.engine
        self._events = edges.events
        self._images = edges.images
        self._networks = edges.networks
        self._sockets = edges.sockets
        self._seats = WeakValueDictionary[ContainerId, _Seat]()
        self._users = dict[tuple[str, str], tuple[int, int]]()

    async def create(self, spec: ContainerSpec) -> Handle:
        """Make the container, with its image pulled if need be. One of the same name that is
        somebody else's is an error that names it."""
        check(spec)
        seat = self._seat(spec.id)
        async with seat.turn:
            image = await self._images.have(spec.image or "")
            await self._make(spec, image)
        return Handle(id=spec.id, schema=SCHEMA)

    async def start(self, handle: Handle) -> Attachment:
        """Start it. Failed, it leaves the container as it was created; one that has ended does
        not start again."""
        seat = self._seat(handle.id)
        async with seat.turn:
            container = await self._ours(handle)
            if container is None:
                raise BackendError(f"there is no container {handle.id} to start")
            match container.phase:
                case Phase.CREATED:
                    container = await self._start(container)
                case Phase.RUNNING:
                    pass
                case Phase.EXITED:
                    raise BackendError(f"container {handle.id} has ended and starts only once")
            return await self._attachment(handle.id, container)

    async def wait(self, handle: Handle) -> Exit:
        """Wait for the engine's word that it has ended; an engine that goes away is waited for,
        too. Raises BackendError for what was not started."""
        seat = self._seat(handle.id)
        with self._events.listening(name_of(handle.id)) as ear:
            seen = False
            while True:
                container = await self._ours(handle)
                if container is None:
                    if seen:
                        return seat.exit or _unseen(ear.exit_code)
                    raise BackendError(f"there is no container {handle.id} to wait for")
                match container.phase:
                    case Phase.EXITED:
                        return await self._exit(container)
                    case Phase.CREATED:
                        message = f"container {handle.id} does not run, so that it cannot end"
                        raise BackendError(message)
                    case Phase.RUNNING:
                        seen = True
                await ear.wait()

    async def signal(self, handle: Handle, signal: Signals) -> None:
        """Send PID 1 a signal. One that does not run swallows it."""
        if await self._ours(handle):
            try:
                await self._engine.kill(name_of(handle.id), signal.name)
            except Refused as exc:
                if exc.status not in (_NOT_FOUND, _CONFLICT):
                    raise

    async def remove(self, handle: Handle) -> None:
        """Kill what runs; remove container, volumes, network namespace and sockets."""
        seat = self._seat(handle.id)
        async with seat.turn:
            container = await self._ours(handle)
            if container is not None:
                if container.phase is Phase.EXITED:
                    seat.exit = await self._exit(container)
                await self._remove(container)
            await self._in_thread(self._sockets.discard, handle.id)
        # Those who wait keep this seat; a new container under the id is not to find it.
        self._seats.pop(handle.id, None)

    async def survey(self) -> Sequence[Found]:
        """List by owner, then look at each. What failed creates left on the host goes."""
        try:
            with anyio.fail_after(_GONE_SECONDS):
                return await self._survey()
        except EngineUnavailable:
            raise
        except (BackendError, TimeoutError) as exc:
            raise EngineUnavailable(f"cannot look for containers: {exc}") from exc

    # For those who do things with containers that are there.

    async def known(self, handle: Handle) -> Container:
        """Raises BackendError when there is none."""
        container = await self._ours(handle)
        if container is None:
            raise BackendError(f"there is no container {handle.id}")
        return container

    async def running(self, handle: Handle) -> Container:
        """Raises BackendError when it does not run."""
        container = await self.known(handle)
        if container.phase is not Phase.RUNNING:
            raise BackendError(f"container {handle.id} does not run")
        return container

    # Making.

    async def _make(self, spec: ContainerSpec, image: Image) -> None:
        try:
            await self._make_anew(spec, image)
        except BaseException:
            # Perhaps nobody could say whether there is a container that has the sockets.
            self._sockets.disclaim(spec.id)
            raise

    async def _make_anew(self, spec: ContainerSpec, image: Image) -> None:
        while (existing := await self._create(spec, image)) is not None:
            refuse_foreign(spec.id, existing, self._owner)
            # What runs is in the middle of its life, whatever it was made from.
            if existing.phase is Phase.RUNNING or existing.labels.get(SPEC) == digest(spec):
                break
            await self._remove(existing)

    async def _create(self, spec: ContainerSpec, image: Image) -> Container | None:
        """Make it; the answer is what has its name already, and then nothing was made."""
        network = await self._networks.take()
        try:
            await self._create_in(network, spec, image)
        except Refused as exc:
            if exc.status == _CONFLICT and (there := await self._engine.inspect(name_of(spec.id))):
                return there
            await self._undo(spec)
            raise
        except BaseException:
            await self._undo(spec)
            raise
        return None

    async def _create_in(self, network: Network, spec: ContainerSpec, image: Image) -> None:
        name, path = name_of(spec.id), self._sockets.path(spec.id)
        place = Place(network.mode, path if spec.sockets else None)
        placed = Placed(spec=spec, owner=self._owner, image=image, place=place)
        try:
            if spec.sockets:
                await self._in_thread(self._sockets.make, spec.id)
            body = describe(self._config, placed)
            made = await self._engine.create(name, body, self._config.platform)
            refuse_unkept(spec, made.warnings)
        except Refused as exc:
            # Nothing was made; so nobody is in there, unless it is the network that is not there.
            if exc.status < _SERVER_ERROR and exc.status != _NOT_FOUND:
                self._networks.give_back(network)
            raise
        finally:
            # Else there may be a container, whatever the answer: looking at them all will tell.
            self._networks.settle(network)
        if spec.sockets:
            await self._give_sockets(spec.id, image)

    async def _undo(self, spec: ContainerSpec) -> None:
        """Whether the engine has made it, only the engine knows."""
        with anyio.move_on_after(_UNDO_SECONDS, shield=True), suppress(BackendError):
            there = await self._engine.inspect(name_of(spec.id))
            if there and there.labels.get(OWNER) == self._owner:
                await self._engine.remove(there.id)
            await self._in_thread(self._sockets.discard, spec.id)

    async def _give_sockets(self, id_: ContainerId, image: Image) -> None:
        user = (image.id, image.user)
        if user not in self._users:
            accounts = None
            if image.user and not image.user.replace(":", "").isdigit():
                archive = await self._engine.archive(name_of(id_), ACCOUNTS)
                accounts = await self._in_thread(content, archive)
            self._users[user] = ids(image.user, accounts)
        await self._in_thread(self._sockets.give, id_, *self._users[user])

    # Starting.

    async def _start(self, container: Container) -> Container:
        try:
            await self._start_in_network(container)
        except EngineUnavailable:
            await self._stop_late(container)
            raise
        if container.holder:
            return container  # where it can be reached, its holder knows
        started = await self._engine.inspect(container.id)
        if started is None:
            raise BackendError(f"container {container.name} was removed while it was started")
        return started

    async def _start_in_network(self, container: Container) -> None:
        try:
            await self._engine.start(container.id)
        except Refused as exc:
            if exc.status != _NOT_FOUND:
                raise
            # Somebody may have removed our network, which nobody ran in: it is made again.
            await self._networks.mend()
            await self._engine.start(container.id)

    async def _stop_late(self, container: Container) -> None:
        """A start whose answer did not come may still come about: it must not run."""
        with anyio.move_on_after(_UNDO_SECONDS, shield=True), suppress(BackendError):
            await self._engine.kill(container.id, "SIGKILL")

    async def _attachment(self, id_: ContainerId, container: Container) -> Attachment:
        holder = await self._networks.holder(container)
        found = await attachment_of(container, holder, local=self._config.is_local)
        has_sockets = SOCKETS_PLACE in container.mounts
        return replace(found, reach=UnixReach(self._sockets.path(id_)) if has_sockets else None)

    # Ending.

    async def _exit(self, container: Container) -> Exit:
        asks = container.oom_killed or is_doubtful(container.exit_code)
        past = await self._engine.past(container.id) if asks else ()
        return ending(container.exit_code, oom=container.oom_killed, past=past)

    async def _remove(self, container: Container) -> None:
        calls = [partial(self._remove_alone, container)]
        if container.holder:
            # At once: the sooner its interface is gone, the less what still runs can reach.
            calls.append(partial(self._networks.release, container.holder))
        await together(calls, at_once=len(calls))

    async def _remove_alone(self, container: Container) -> None:
        with self._events.listening(container.name) as ear:
            try:
                begun = container.phase is not Phase.CREATED
                await self._engine.remove(container.id, begun=begun)
            except Refused as exc:
                if exc.status != _CONFLICT:
                    raise
            # Somebody else's removal of it is in progress, and it has its name until that is done.
            with anyio.move_on_after(_GONE_SECONDS) as patience:
                while await self._engine.inspect(container.id):
                    await ear.wait()
            if patience.cancelled_caught:
                raise BackendError(f"container {container.name} is still there", retryable=True)

    # Looking.

    async def _survey(self) -> list[Found]:
        unclaimed = await self._in_thread(self._sockets.unclaimed)
        listed = await self._engine.labelled(f"{OWNER}={self._owner}")
        await self._sweep(unclaimed.difference(*(each.sources for each in listed)))
        # An image that somebody makes of a container has its labels, and so has what it is run in.
        ours = (each for each in listed if CONTAINER in each.labels)
        names = [e.name for e in ours if e.name == name_of(ContainerId(e.labels[CONTAINER]))]
        found = dict[str, Found]()

        async def look(name: str) -> None:
            container = await self._engine.inspect(name)
            if container is not None:
                found[name] = await self._find(container)

        looks = [partial(look, name) for name in names]
        await together(looks, at_once=_AT_ONCE)
        return [found[name] for name in sorted(found)]

    async def _sweep(self, unused: frozenset[str]) -> None:
        if unused:
            # The state directory may have been another owner's, whose containers live on.
            listed = await self._engine.labelled(OWNER)
            unused = unused.difference(*(each.sources for each in listed))
            await self._in_thread(self._sockets.sweep, unused)

    async def _find(self, container: Container) -> Found:
        id_ = ContainerId(container.labels[CONTAINER])
        phase = container.phase
        return Found(
            id=id_,
            handle=Handle(id=id_, schema=SCHEMA),
            phase=phase,
            attachment=await self._attachment(id_, container) if phase is Phase.RUNNING else None,
            exit=await self._exit(container) if phase is Phase.EXITED else None,
        )

    # What all of them need.

    async def _ours(self, handle: Handle) -> Container | None:
        """The container of a handle. One of the name that is not ours is none."""
        if handle.schema != SCHEMA:
            raise BackendError(
                f"the handle of container {handle.id} has schema {handle.schema}; this driver "
                f"knows {SCHEMA}"
            )
        container = await self._engine.inspect(name_of(handle.id))
        return container if container and container.labels.get(OWNER) == self._owner else None

    def _seat(self, id_: ContainerId) -> _Seat:
        return self._seats.setdefault(id_, _Seat())

    async def _in_thread(self, call: Callable[..., ResultT], *args: object) -> ResultT:
        return await anyio.to_thread.run_sync(call, *args)


def _unseen(code: int | None) -> Exit:
    """The end of a container that was removed while it was waited for."""
    return Exit() if code is None else ending(code, oom=False)
