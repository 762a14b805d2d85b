"""Doing what the machine asks for: each effect, the plugin that does it, its deadline.

Whatever goes wrong becomes an event of that one container. Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from signal import Signals
from typing import Final, Generic, TypeAlias, TypeVar, assert_never

import anyio
import structlog

from longshore_core._errors import (
    BackendError,
    EngineUnavailable,
    GuestError,
    ImageError,
    LongshoreError,
    PluginContractError,
)
from longshore_core._machine.life import (
    Admit,
    Admitted,
    Create,
    Created,
    Ending,
    Event,
    Exited,
    Failed,
    Halt,
    Order,
    Release,
    Released,
    Remove,
    Removed,
    Revoke,
    Start,
    Started,
    TerminationReason,
    Unhealthy,
    Watch,
)
from longshore_core._model import (
    Attachment,
    ContainerId,
    ContainerSpec,
    Handle,
    Launch,
    Limit,
    Limits,
)
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import Admission, blame
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.abc import Guest, NetworkEnforcer, SecretsProvider, Session

ThingT = TypeVar("ThingT")

LaneEffect: TypeAlias = Create | Start | Admit | Release | Halt | Revoke | Remove

HEALTH_PERIOD_SECONDS: Final = 5.0
HEALTH_DEADLINE_SECONDS: Final = 5.0
HEALTH_FAILURES: Final = 6
"""Unanswered checks in a row before a guest is given up: a busy host is not a dead guest."""
ENGINE_RETRY_SECONDS: Final = 1.0

log = structlog.stdlib.get_logger("longshore_core.containers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamed(Generic[ThingT]):
    """A plugin's thing, and whom to blame for what it raises."""

    thing: ThingT
    origin: Installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """What a worker does its work with."""

    driver: AdaptedDriver
    guest: Blamed[Guest]
    network: Blamed[NetworkEnforcer]
    secrets: Blamed[SecretsProvider]
    admission: Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each class of effect may take, in seconds."""

    create: float = 900
    """Includes the pull of an image."""
    start: float = 60
    admit: float = 30
    release: float = 60
    halt: float = 5
    remove: float = 60
    engine_retry: float = ENGINE_RETRY_SECONDS
    """Between two attempts to wait for a container while the engine cannot be asked."""


class Performer:
    """Performs effects, and keeps one session to each guest."""

    def __init__(
        self, backends: Backends, executor_id: str, deadlines: Deadlines | None = None
    ) -> None:
        self._use = backends
        self._executor_id = executor_id
        self._deadlines = deadlines or Deadlines()
        self._sessions: dict[ContainerId, Session] = {}

    async def perform(self, id_: ContainerId, effect: LaneEffect) -> Event | None:
        """Do one effect; the answer is what came of it, or `None` where nobody needs to know."""
        operation = type(effect).__name__.lower()
        seconds = self._deadline(effect)
        with anyio.move_on_after(seconds):
            try:
                return await self._do(id_, effect)
            except LongshoreError as exc:
                return Failed(operation=operation, why=_ending(exc))
        late = Ending(
            reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR,
            message=f"{operation} was not done within {seconds:g} seconds",
            code="TIMEOUT",
        )
        return Failed(operation=operation, why=late)

    async def watch(self, id_: ContainerId, effect: Watch, post: Callable[[Event], None]) -> None:
        """Post how PID 1 ended, or that its guest is not well; then return."""
        async with anyio.create_task_group() as tasks:

            async def first(fact: Callable[[], Awaitable[Event]]) -> None:
                post(await fact())
                tasks.cancel_scope.cancel()

            tasks.start_soon(first, partial(self._exited, effect.handle))
            if effect.attachment.reach is not None:
                tasks.start_soon(first, partial(self._unhealthy, id_, effect.attachment))

    async def aclose(self) -> None:
        """Let go of every guest. They live on."""
        for id_ in list(self._sessions):
            await self._part(id_)

    def _deadline(self, effect: LaneEffect) -> float:
        match effect:
            case Create():
                return self._deadlines.create
            case Start():
                return self._deadlines.start
            case Admit() | Revoke():
                return self._deadlines.admit
            case Release():
                return self._deadlines.release
            case Halt():
                return self._deadlines.halt
            case Remove():
                return self._deadlines.remove
            case _ as never:
                assert_never(never)

    async def _do(self, id_: ContainerId, effect: LaneEffect) -> Event | None:
        match effect:
            case Create(order=order):
                return Created(handle=await self._create(order))
            case Start(handle=handle):
                return Started(attachment=await self._use.driver.start(handle))
            case Admit(attachment=attachment, policy=policy):
                with blame(self._use.network.origin, "admit"):
                    await self._use.network.thing.admit(id_, attachment, policy)
                return Admitted()
            case Release():
                await self._release(id_, effect)
                return Released()
            case Halt():
                await self._halt(id_, effect)
                return None
            case Revoke():
                with blame(self._use.network.origin, "revoke"):
                    await self._use.network.thing.revoke(id_)
                return None
            case Remove(handle=handle):
                await self._part(id_)
                await self._remove(id_, handle)
                return Removed()
            case _ as never:
                assert_never(never)

    async def _create(self, order: Order) -> Handle:
        spec = ContainerSpec(
            id=order.id,
            kind=order.kind,
            image=order.image,
            argv=order.entrypoint,
            limits=_enforceable(order.limits, self._use.driver.facts.limits),
            labels={
                "indexify.managed": "true",
                "managed": "true",
                "executor_id": self._executor_id,
                "namespace": order.namespace,
                "container_id": order.id,
                "sandbox_id": order.sandbox_id or "",
            },
        )
        with blame(self._use.guest.origin, "launch"):
            spec = self._use.guest.thing.launch(spec, self._use.driver.facts)
        veto = await self._use.admission.veto(spec)
        if veto is not None:
            raise BackendError(veto)
        return await self._use.driver.create(spec)

    async def _release(self, id_: ContainerId, effect: Release) -> None:
        names, env = effect.order.secret_names, dict[str, str]()
        if names:
            with blame(self._use.secrets.origin, "fetch"):
                env = dict(await self._use.secrets.thing.fetch(effect.order.namespace, names))
            if missing := [name for name in names if name not in env]:
                raise PluginContractError(
                    self._use.secrets.origin.label, f"fetch left out {', '.join(missing)}"
                )
        launch = Launch(token=effect.token, env=env, entrypoint=effect.order.entrypoint)
        session = await self._session(id_, effect.attachment)
        if session is not None:
            with blame(self._use.guest.origin, "go"):
                await session.go(launch)

    async def _halt(self, id_: ContainerId, effect: Halt) -> None:
        try:
            session = await self._session(id_, effect.attachment)
            if session is not None:
                with blame(self._use.guest.origin, "stop"):
                    await session.stop()
                return
        except GuestError as exc:
            log.info("Guest cannot be asked to stop; signalling it", container_id=id_, why=str(exc))
        await self._use.driver.signal(effect.handle, Signals.SIGTERM)

    async def _remove(self, id_: ContainerId, handle: Handle | None) -> None:
        if handle is not None:
            await self._use.driver.remove(handle)
            return
        # `create` was not seen to end: ask what there is under the id.
        for found in await self._use.driver.survey():
            if found.id == id_:
                await self._use.driver.remove(found.handle)

    async def _session(self, id_: ContainerId, attachment: Attachment) -> Session | None:
        if attachment.reach is None:
            return None
        session = self._sessions.get(id_)
        if session is None:
            with blame(self._use.guest.origin, "connect"):
                session = await self._use.guest.thing.connect(attachment.reach)
            self._sessions[id_] = session
        return session

    async def _part(self, id_: ContainerId) -> None:
        session = self._sessions.pop(id_, None)
        if session is not None:
            with anyio.CancelScope(shield=True), blame(self._use.guest.origin, "aclose"):
                await session.aclose()

    async def _exited(self, handle: Handle) -> Event:
        while True:
            try:
                return Exited(exit=await self._use.driver.wait(handle))
            except EngineUnavailable as exc:
                # Unknown is not dead: ask again for as long as it takes.
                log.warning("Cannot wait for a container", container_id=handle.id, why=str(exc))
                await anyio.sleep(self._deadlines.engine_retry)
            except LongshoreError as exc:
                why = replace(_ending(exc), reason=TerminationReason.INTERNAL_ERROR)
                return Failed(operation="watch", why=why)

    async def _unhealthy(self, id_: ContainerId, attachment: Attachment) -> Event:
        failures, reason = 0, ""
        while failures < HEALTH_FAILURES:
            await anyio.sleep(HEALTH_PERIOD_SECONDS)
            try:
                with anyio.fail_after(HEALTH_DEADLINE_SECONDS):
                    session = await self._session(id_, attachment)
                    if session is not None:
                        with blame(self._use.guest.origin, "health"):
                            await session.health()
                failures = 0
            except (LongshoreError, TimeoutError) as exc:
                failures, reason = failures + 1, str(exc) or "no answer in time"
                await self._part(id_)
                log.warning("Guest is not well", container_id=id_, failures=failures, why=reason)
        return Unhealthy(message=f"the guest did not answer {failures} health checks: {reason}")


def _enforceable(wanted: Limits, can: frozenset[Limit]) -> Limits:
    """What the driver declares to enforce of the limits that every order carries.

    The rest still counts in the ledger, and the driver's own page says that nothing holds it.
    """
    return Limits(
        cpu_millis=wanted.cpu_millis if Limit.CPU in can else None,
        memory_bytes=wanted.memory_bytes if Limit.MEMORY in can else None,
        disk_bytes=wanted.disk_bytes if Limit.DISK in can else None,
        pids=wanted.pids if Limit.PIDS in can else None,
    )


def _ending(exc: LongshoreError) -> Ending:
    bad_image = isinstance(exc, ImageError)
    return Ending(
        reason=TerminationReason.STARTUP_FAILED_BAD_IMAGE
        if bad_image
        else TerminationReason.STARTUP_FAILED_INTERNAL_ERROR,
        message=str(exc),
        code=exc.code,
    )
