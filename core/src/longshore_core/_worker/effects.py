"""Doing what the machine asks for: each effect, the plugin that does it, its deadline.

Whatever goes wrong becomes an event of that one container. Nothing here decides.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from signal import Signals
from typing import Final, Generic, TypeAlias, TypeVar, assert_never, cast

import anyio
import structlog

from longshore_core._errors import (
    BackendError,
    ImageError,
    LongshoreError,
    PluginContractError,
    UnsupportedCapability,
)
from longshore_core._machine.life import (
    Admit,
    Admitted,
    Ask,
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
    ContainerId,
    ContainerSpec,
    Facts,
    Handle,
    Launch,
    Limit,
    Limits,
    Reach,
)
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import Admission, blame
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core._worker.engine import PullLog
from longshore_core.abc import Guest, NetworkEnforcer, SecretsProvider, Session

ThingT = TypeVar("ThingT")

LaneEffect: TypeAlias = Create | Start | Admit | Release | Halt | Revoke | Remove

HEALTH_PERIOD_SECONDS: Final = 5.0
HEALTH_DEADLINE_SECONDS: Final = 5.0
HEALTH_FAILURES: Final = 6
"""Unanswered checks in a row before a guest is given up: a busy host is not a dead guest."""
ENGINE_RETRY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 2.5
"""For a guest to take the request to stop; then PID 1 is signalled."""
PART_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 30.0
"""For a driver to give up by itself, and to take away what it had begun."""
MESSAGE_LIMIT: Final = 4096

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

    create: float = 630
    """Includes the pull of an image."""
    start: float = 90
    admit: float = 30
    release: float = 60
    halt: float = 5
    remove: float = 60
    engine_retry: float = ENGINE_RETRY_SECONDS
    """Between two attempts to wait for a container while the engine cannot be asked."""

    @classmethod
    def of(cls, facts: Facts, release: float) -> Deadlines:
        """Those of a driver that has some of its own, which name what to configure: ours are for
        one that does not keep them."""
        return cls(
            create=facts.create_seconds + GRACE_SECONDS,
            start=facts.start_seconds + GRACE_SECONDS,
            release=release,
        )


class Performer:
    """Performs effects. Keeps nothing between two of them: a guest is connected to for each."""

    def __init__(
        self, backends: Backends, executor_id: str, deadlines: Deadlines | None = None
    ) -> None:
        self._use = backends
        self._executor_id = executor_id
        self._deadlines = deadlines or Deadlines()

    async def perform(self, id_: ContainerId, effect: LaneEffect) -> Event | None:
        """Do one effect; the answer is what came of it, or `None` where nobody needs to know."""
        operation = type(effect).__name__.lower()
        seconds = self._deadline(effect)
        with anyio.move_on_after(seconds):
            try:
                return await self._do(id_, effect)
            except LongshoreError as exc:
                return self._failed(id_, operation, _ending(exc))
        late = Ending(
            reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR,
            message=f"{operation} was not done within {seconds:g} seconds",
            code="TIMEOUT",
        )
        return self._failed(id_, operation, late)

    def _failed(self, id_: ContainerId, operation: str, why: Ending) -> Failed:
        log.warning("Effect failed", container_id=id_, operation=operation, why=why.message)
        return Failed(operation=operation, why=why)

    async def watch(self, id_: ContainerId, effect: Watch | Ask) -> Event | None:
        """How PID 1 ended, or that its guest is not well; `None`: there is no guest to ask."""
        if isinstance(effect, Watch):
            return await self._exited(effect.handle)
        reach = effect.attachment.reach
        return await self._unhealthy(id_, reach) if reach is not None else None

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
                await self._release(effect)
                return Released()
            case Halt():
                await self._halt(id_, effect)
                return None
            case Revoke():
                with blame(self._use.network.origin, "revoke"):
                    await self._use.network.thing.revoke(id_)
                return None
            case Remove(handle=handle):
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
            labels=self._labels(order),
        )
        guest = self._use.guest
        with blame(guest.origin, "launch"):
            spec = guest.thing.launch(spec, self._use.driver.facts)
        if not isinstance(cast("object", spec), ContainerSpec) or spec.id != order.id:
            message = f"launch returned something other than a spec for {order.id!r}"
            raise PluginContractError(guest.origin.label, message)
        veto = await self._use.admission.veto(spec)
        if veto is not None:
            raise BackendError(veto)
        driver = self._use.driver
        if spec.image is not None and driver.runtime.images is not None:
            await driver.ensure(spec.image, PullLog(order.id))
        return await driver.create(spec)

    def _labels(self, order: Order) -> dict[str, str]:
        """What operators and their tools look for: those of Indexify's workers."""
        tags = [f"namespace:{order.namespace}", f"app_version:{order.application_version}"]
        return {
            "indexify.managed": "true",
            "managed": "true",
            "executor_id": self._executor_id,
            "fn_executor_id": order.id,
            "container_id": order.id,
            "sandbox_id": order.sandbox_id or "",
            "pool_id": order.pool_id,
            "namespace": order.namespace,
            "app_version": order.application_version,
            "com.datadoghq.ad.tags": json.dumps(tags),
        }

    async def _release(self, effect: Release) -> None:
        order, reach = effect.order, effect.attachment.reach
        if reach is None:
            if order.secret_names:
                raise UnsupportedCapability("its guest cannot be handed secrets: it has no reach")
            return
        launch = Launch(
            token=effect.token, env=await self._secrets(order), entrypoint=order.entrypoint
        )
        async with self._session(reach) as session:
            with blame(self._use.guest.origin, "go"):
                await session.go(launch)

    async def _secrets(self, order: Order) -> dict[str, str]:
        names, origin = order.secret_names, self._use.secrets.origin
        if not names:
            return {}
        with blame(origin, "fetch"):
            values = dict(await self._use.secrets.thing.fetch(order.namespace, names))
        missing = [name for name in names if not isinstance(cast("object", values.get(name)), str)]
        if missing:
            raise PluginContractError(origin.label, f"fetch left out {', '.join(missing)}")
        return {name: values[name] for name in names}

    async def _halt(self, id_: ContainerId, effect: Halt) -> None:
        reach = effect.attachment.reach
        if reach is not None:
            try:
                with anyio.fail_after(STOP_SECONDS):
                    async with self._session(reach) as session:
                        with blame(self._use.guest.origin, "stop"):
                            await session.stop()
                        return
            except (LongshoreError, TimeoutError) as exc:
                why = str(exc) or "no answer in time"
                log.info("Guest cannot be asked to stop; signalling it", container_id=id_, why=why)
        await self._use.driver.signal(effect.handle, Signals.SIGTERM)

    async def _remove(self, id_: ContainerId, handle: Handle | None) -> None:
        if handle is not None:
            await self._use.driver.remove(handle)
            return
        # `create` was not seen to end: ask what there is under the id.
        for found in await self._use.driver.survey():
            if found.id == id_:
                await self._use.driver.remove(found.handle)

    @asynccontextmanager
    async def _session(self, reach: Reach) -> AsyncGenerator[Session]:
        with blame(self._use.guest.origin, "connect"):
            session = await self._use.guest.thing.connect(reach)
        try:
            yield session
        finally:
            with anyio.move_on_after(PART_SECONDS, shield=True):
                try:
                    with blame(self._use.guest.origin, "aclose"):
                        await session.aclose()
                except LongshoreError as exc:
                    log.warning("Guest was not let go of in order", why=str(exc))

    async def _exited(self, handle: Handle) -> Event:
        while True:
            try:
                return Exited(exit=await self._use.driver.wait(handle))
            except LongshoreError as exc:
                if not exc.retryable:
                    why = replace(_ending(exc), reason=TerminationReason.INTERNAL_ERROR)
                    return Failed(operation="watch", why=why)
                # Unknown is not dead: ask again for as long as it takes.
                log.warning("Cannot wait for a container", container_id=handle.id, why=str(exc))
                await anyio.sleep(self._deadlines.engine_retry)

    async def _unhealthy(self, id_: ContainerId, reach: Reach) -> Event:
        failures, reason = 0, ""
        while failures < HEALTH_FAILURES:
            await anyio.sleep(HEALTH_PERIOD_SECONDS)
            try:
                with anyio.fail_after(HEALTH_DEADLINE_SECONDS):
                    async with self._session(reach) as session:
                        with blame(self._use.guest.origin, "health"):
                            await session.health()
                failures = 0
            except (LongshoreError, TimeoutError) as exc:
                failures, reason = failures + 1, _told(exc) or "no answer in time"
                log.warning("Guest is not well", container_id=id_, failures=failures, why=reason)
        return Unhealthy(message=f"the guest did not answer {failures} health checks: {reason}")


def _enforceable(wanted: Limits, can: frozenset[Limit]) -> Limits:
    """What the driver declares to enforce of the limits that every order carries.

    The rest still counts in the ledger; the worker says at its start that nothing holds it.
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
        message=_told(exc),
        code=exc.code,
    )


def _told(exc: Exception) -> str:
    """An error's message as it can be stored and sent: of bounded length, and valid Unicode.

    A path with bytes that are no text has code points that no encoding takes.
    """
    return str(exc)[:MESSAGE_LIMIT].encode("utf-8", "backslashreplace").decode()
