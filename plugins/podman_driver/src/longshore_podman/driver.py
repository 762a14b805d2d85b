"""The driver. It remembers nothing that it could not look up: the engine's labels say whose a
container is and what belongs to it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from signal import Signals
from typing import Final
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel
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
    ImageError,
    Phase,
    UnixReach,
)
from longshore_core.abc import Driver

from longshore_podman.answers import Container
from longshore_podman.config import Config
from longshore_podman.endings import Witness, exit_of
from longshore_podman.engine import Engine, Refusal
from longshore_podman.events import Events
from longshore_podman.images import Images
from longshore_podman.known import Known
from longshore_podman.lookup import Lookup, is_stale, network_of, owner_of
from longshore_podman.monitors import wait_for_monitors
from longshore_podman.namespaces import Namespace
from longshore_podman.networks import Networks
from longshore_podman.places import Places
from longshore_podman.recent import Recent
from longshore_podman.runtimes import check_runtime, end_half_begun
from longshore_podman.shield import see_through
from longshore_podman.specification import (
    ID,
    OWNER,
    SOCKETS,
    Surroundings,
    check,
    describe,
)

_UNDO_SECONDS: Final = 20.0
_AGAIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a driver is put together from."""

    engine: Engine
    lookup: Lookup
    events: Events
    images: Images
    places: Places
    witness: Witness
    networks: Networks | None
    """`None`: containers join a network of the engine's."""
    known: Known
    logger: logging.Logger


@dataclass(slots=True, weakref_slot=True)
class _Seat:
    """What calls about one container share, for as long as there are any."""

    turn: anyio.Lock = field(default_factory=anyio.Lock)
    """Of `create`, `start` and `remove`, which must not meet."""
    exit: Exit | None = None
    """Left by `remove` to those who still wait."""


class PodmanDriver(Driver):
    """Runs containers on a Podman service. They outlive it."""

    def __init__(self, config: Config, owner: str, parts: Parts) -> None:
        self._config = config
        self._owner = owner
        self._parts = parts
        self._engine = parts.engine
        self._lookup = parts.lookup
        self._seats = WeakValueDictionary[ContainerId, _Seat]()
        self._made = Recent[str]()
        """The engine's ids of those that were made just now, for who starts them next."""

    async def create(self, spec: ContainerSpec) -> Handle:
        """Pull the image when it is not there, and make the container with its network.

        Raises UnsupportedCapability for a limit that this engine cannot enforce, and BackendError
        for a name that somebody else's container has.
        """
        await self._parts.known.ask()
        check(spec, self._parts.known.limits)
        seat = self._seat(spec.id)
        async with seat.turn:
            there = await self._lookup.named(spec.id)
            if there is not None and not self._lookup.owns(there):
                raise BackendError(
                    f"cannot create container {spec.id}: the name {there.name} is taken by "
                    f"container {there.id[:12]} of {owner_of(there)}; rename or remove it"
                )
            if there is not None and is_stale(there, spec):
                await self._end(spec.id, there, seat)
                there = None
            if there is None:
                # Also of an attempt that could not be undone.
                await self._vacate(spec.id)
                await self._make(spec)
        return self._lookup.handle(spec.id)

    async def start(self, handle: Handle) -> Attachment:
        """Run PID 1. One that has ended does not start again."""
        seat = self._seat(handle.id)
        async with seat.turn:
            if handle == self._lookup.handle(handle.id) and (made := self._made.take(handle.id)):
                return self._attachment(await self._launch(handle.id, made))
            container = await self._lookup.own(handle)
            if container is None:
                raise BackendError(f"there is no container {handle.id} to start")
            if container.phase is Phase.EXITED:
                raise BackendError(f"container {handle.id} has ended and starts only once")
            if container.phase is Phase.CREATED:
                await end_half_begun(self._engine, container)
                container = await self._launch(handle.id, container.id)
        return self._attachment(container)

    async def wait(self, handle: Handle) -> Exit:
        """Wait for the engine to say that it has ended, whatever happens to the engine meanwhile.
        Raises BackendError for what was not started."""
        seat, events = self._seat(handle.id), self._parts.events
        told = events.told
        container = await self._lookup.own(handle)
        if container is None or container.phase is Phase.CREATED:
            raise BackendError(f"container {handle.id} does not run, so that it cannot end")
        self._parts.witness.watch(container.id, container.pid)
        # Nobody could hear of it before its id was known.
        is_sure, patience = told == events.told, math.inf
        while container.phase is not Phase.EXITED:
            with events.hearing(container.id) as heard:
                if not is_sure:
                    again, patience = await self._look(container)
                    if again is None:
                        self._parts.witness.forget(container.id)
                        return seat.exit or Exit()
                    container = again
                if container.phase is not Phase.EXITED:
                    with anyio.move_on_after(patience):
                        await heard.wait()
            is_sure = False
        return await self._exit(handle.id, container)

    async def signal(self, handle: Handle, signal: Signals) -> None:
        """Send PID 1 a signal. Being the first of its namespace, it does not get from the kernel
        what it has no handler for, except SIGKILL."""
        container = await self._lookup.own(handle)
        if container is None or container.phase is not Phase.RUNNING:
            return
        try:
            await self._engine.kill(container.id, signal.name)
        except Refusal as exc:
            again = await self._engine.container(container.id)
            if again is not None and again.phase is Phase.RUNNING:
                what = f"cannot send {signal.name} to container {handle.id}"
                raise BackendError(f"{what}: {exc}") from exc

    async def remove(self, handle: Handle) -> None:
        """Kill and remove it, then its network and directory."""
        seat = self._seat(handle.id)
        async with seat.turn:
            container = await self._lookup.own(handle)
            self._made.take(handle.id)
            # Half of a removal would leave a network that no label speaks of.
            await see_through(self._take_away(handle.id, container, seat))
        # Those who wait keep this seat; a new container under the id is not to find it.
        self._seats.pop(handle.id, None)

    async def survey(self) -> Sequence[Found]:
        """Ask the engine for all that bear the owner's label."""
        containers = await self._own()
        await self._tidy(containers)
        return [await self._find(each) for each in containers]

    async def adopt(self) -> None:
        """Watch what runs already, and take away networks of containers that are gone: as soon as
        the engine can be asked."""
        containers = await self._own_once_up()
        for each in containers:
            self._parts.witness.watch(each.id, each.pid)
        await self._tidy(containers)
        if self._parts.networks is not None:
            numbers = (network_of(each) for each in containers)
            await self._parts.networks.sweep(number for number in numbers if number)

    # Making and starting.

    async def _make(self, spec: ContainerSpec) -> None:
        """Whole, or not at all."""
        parts = self._parts
        info = await parts.known.ask()
        image = await parts.images.obtain_once(spec.image or "")
        # Without root, an engine could not join what root has made.
        own = None if info.rootless else parts.networks
        network = await own.acquire() if own else None
        around = Surroundings(
            owner=self._owner,
            image=image,
            limits=parts.known.limits,
            rootless=info.rootless,
            storage_driver=info.storage_driver,
            sockets=str(parts.places.sockets(spec.id)) if spec.sockets else None,
            network=network,
        )
        asked = made = False
        try:
            number = network.number if network else None
            await anyio.to_thread.run_sync(parts.places.make, spec.id, number)
            body = describe(spec, self._config, around)
            asked = True
            # The engine makes it even when nobody waits any more, and then nobody would know.
            engine_id = await see_through(self._ask(spec, body))
            await anyio.lowlevel.checkpoint()
            made = True
            self._made.keep(spec.id, engine_id)
        finally:
            if not made:
                with anyio.move_on_after(_UNDO_SECONDS, shield=True):
                    await self._unmake(spec.id, network, asked=asked)

    async def _ask(self, spec: ContainerSpec, body: Mapping[str, object]) -> str:
        try:
            made = await self._engine.create(body, self._config.startup_timeout_seconds)
        except Refusal as exc:
            kind = ImageError if exc.cause == "image not known" else BackendError
            raise kind(f"Podman does not make container {spec.id}: {exc}") from exc
        await check_runtime(self._engine, made, self._config.runtime)
        return made

    async def _unmake(self, id_: ContainerId, network: Namespace | None, *, asked: bool) -> None:
        try:
            container = await self._lookup.own(self._lookup.handle(id_)) if asked else None
            if container is not None:
                await self._engine.remove(container.id)
            await self._vacate(id_, network)
        except BackendError:
            return  # whatever there is bears our label, or has a place, and is found later

    async def _launch(self, id_: ContainerId, engine_id: str) -> Container:
        await anyio.to_thread.run_sync(self._parts.places.make, id_)
        # The engine starts it, whoever still waits for that.
        return await see_through(self._run(id_, engine_id))

    async def _run(self, id_: ContainerId, engine_id: str) -> Container:
        """In two steps, so that PID 1 is watched before its first instruction."""
        seconds = self._config.startup_timeout_seconds
        try:
            await self._engine.init(engine_id, seconds)
            held = await self._engine.container(engine_id)
            if held is None:
                raise BackendError(f"container {id_} was removed while it started")
            self._parts.witness.watch(held.id, held.pid)
            await self._engine.start(engine_id, seconds)
        except Refusal as exc:
            await wait_for_monitors(engine_id)
            raise BackendError(f"container {id_} does not start: {exc}") from exc
        return held

    # Ending.

    async def _take_away(self, id_: ContainerId, container: Container | None, seat: _Seat) -> None:
        if container is not None:
            await self._end(id_, container, seat)
        await self._vacate(id_)

    async def _end(self, id_: ContainerId, container: Container, seat: _Seat) -> None:
        await end_half_begun(self._engine, container)
        try:
            await self._engine.remove(container.id)
        except Refusal as exc:
            raise BackendError(f"cannot remove container {id_}: {exc}", retryable=True) from exc
        await wait_for_monitors(container.id)
        ending = exit_of(container, self._parts.witness.ending(container.id))
        # What ran until now was killed by the removal, whoever was killed in there before.
        seat.exit = replace(ending, oom=ending.oom and container.phase is Phase.EXITED)
        self._parts.witness.forget(container.id)

    async def _vacate(self, id_: ContainerId, network: Namespace | None = None) -> None:
        """Take away what is on this host. Idempotent, and right too when somebody has taken the
        container from the engine."""
        number = network.number if network else self._parts.places.network(id_)
        if number is not None and self._parts.networks is not None:
            await self._parts.networks.release(number)
        await anyio.to_thread.run_sync(self._parts.places.remove, id_)

    async def _tidy(self, containers: Sequence[Container]) -> None:
        """Take away what is on this host of containers that the engine does not have: it may have
        died in the middle of making them, and then nothing was known to be undone."""
        listed = {each.labels[ID] for each in containers}
        for id_ in await anyio.to_thread.run_sync(self._parts.places.all) - listed:
            seat = self._seat(id_)
            if seat.turn.locked():
                continue  # it is being made, or removed
            async with seat.turn:
                try:
                    if await self._lookup.own(self._lookup.handle(id_)) is None:
                        await self._vacate(id_)
                except BackendError as exc:
                    # It is found again by the next survey.
                    self._parts.logger.warning("podman_place_left", extra={"why": str(exc)})

    async def _exit(self, id_: ContainerId, container: Container) -> Exit:
        """How it has ended: found out once, and kept for whoever asks later."""
        known = self._parts.places.exit(id_)
        if known is not None:
            return known
        # Its monitor still has to tidy up, and a listing does not say everything.
        await wait_for_monitors(container.id)
        again = await self._engine.container(container.id) or container
        exit_ = exit_of(again, self._parts.witness.ending(container.id))
        if exit_.oom and await self._engine.was_killed(again.id, again.ended_at):
            exit_ = replace(exit_, oom=False)
        # Two may be here at once, and only the first one has the witness.
        known = self._parts.places.exit(id_)
        if known is not None:
            return known
        try:
            self._parts.places.record(id_, exit_)
            self._parts.witness.forget(container.id)
        except OSError as exc:
            # Told all the same, and kept when it is asked for the next time.
            self._parts.logger.warning("podman_exit_not_kept", extra={"id": id_, "why": str(exc)})
        return exit_

    # Looking.

    async def _own(self) -> list[Container]:
        try:
            containers = await self._engine.containers([f"{OWNER}={self._owner}"])
        except Refusal as exc:
            raise EngineUnavailable(f"Podman does not list its containers: {exc}") from exc
        return [each for each in containers if self._lookup.owns(each)]

    async def _own_once_up(self) -> list[Container]:
        while True:
            changed = self._parts.events.changed
            try:
                return await self._own()
            except EngineUnavailable:
                await changed.wait()

    async def _look(self, container: Container) -> tuple[Container | None, float]:
        """How it is now, and for how many seconds that holds, should nothing be heard of it. As it
        was, while the engine cannot say: unknown is not dead."""
        try:
            return await self._engine.container(container.id), math.inf
        except BackendError as exc:
            if not exc.retryable:
                raise
            return container, _AGAIN_SECONDS

    async def _find(self, container: Container) -> Found:
        self._parts.witness.watch(container.id, container.pid)
        id_ = ContainerId(container.labels[ID])
        running, ended = container.phase is Phase.RUNNING, container.phase is Phase.EXITED
        return Found(
            id=id_,
            handle=self._lookup.handle(id_),
            phase=container.phase,
            attachment=self._attachment(container) if running else None,
            exit=await self._exit(id_, container) if ended else None,
        )

    def _attachment(self, container: Container) -> Attachment:
        sockets = self._parts.places.sockets(ContainerId(container.labels[ID]))
        reach = UnixReach(str(sockets)) if container.labels.get(SOCKETS) == "true" else None
        number = network_of(container)
        if number is None or self._parts.networks is None:
            return Attachment(reach=reach)
        space = self._parts.networks.at(number)
        return Attachment(
            reach=reach,
            addresses=(space.address,),
            interface=space.interface,
            netns=space.path,
        )

    def _seat(self, id_: ContainerId) -> _Seat:
        return self._seats.setdefault(id_, _Seat())
