"""Opening what a plugin offers, and calling a driver: always through here, for every plugin alike.

The adapter is where a plugin meets its contract: its config is validated, what it returns makes the
round trip through JSON that a restart would make, and whatever it raises names it.

A backend is entered and left in a task of its own. It may hold a task group or a cancel scope open
between the two, and scopes nest by task: ours around its exit would break one of its own.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from signal import Signals
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, cast

import anyio
import structlog
from anyio.abc import TaskStatus
from pydantic import BaseModel, TypeAdapter

from longshore_core._errors import (
    LongshoreError,
    PluginContractError,
    PluginCrash,
    UnsupportedCapability,
)
from longshore_core._model import (
    Attachment,
    Chunk,
    ContainerSpec,
    Exit,
    Facts,
    Fingerprint,
    Found,
    Handle,
    Limit,
    PullProgress,
    Usage,
)
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import Selected, blame, innermost
from longshore_core._plugins.lending import LentProcess, expected, lent, stream
from longshore_core.abc import (
    Driver,
    Executor,
    HealthStream,
    Host,
    ImageStore,
    LogStore,
    Meter,
    Pauser,
    Running,
    Runtime,
)
from longshore_core.process import config

ThingT = TypeVar("ThingT")

OPEN_SECONDS: Final = 120.0
CLOSE_SECONDS: Final = 30.0
_STORED: Final[Mapping[type, TypeAdapter[Any]]] = MappingProxyType(
    {kind: TypeAdapter(kind) for kind in (Attachment, Exit, Found, Handle)}
)

log = structlog.stdlib.get_logger("longshore_core.plugins")


@asynccontextmanager
async def opened(
    selected: Selected[ThingT], options: dict[str, Any], host: Host, path: str
) -> AsyncGenerator[ThingT]:
    """Validate a plugin's section of the config and open its backend.

    Raises ConfigError with the YAML path, PluginCrash: also for one whose own tasks fail while it
    is open. Its exit is shielded, with a deadline; what goes wrong there is logged.
    """
    at = tuple(int(step) if step.isdigit() else step for step in path.split("."))
    settings = config.validate(selected.plug.config, options, at=at)
    stay = _Stay(selected, settings, host)
    try:
        async with anyio.create_task_group() as tasks:
            thing = await tasks.start(stay.run)
            try:
                yield thing
            finally:
                stay.leave()
    except BaseExceptionGroup as group:
        sole = innermost(group)
        raise sole from sole.__cause__


class _Stay(Generic[ThingT]):
    """A backend's time between being entered and being left, as one task."""

    def __init__(self, selected: Selected[ThingT], settings: BaseModel, host: Host) -> None:
        self._selected = selected
        self._settings = settings
        self._host = host
        self._over = anyio.Event()
        self._scope = anyio.CancelScope()

    def leave(self) -> None:
        """Let the backend's exit path begin, and end it if it takes too long."""
        self._scope.deadline = anyio.current_time() + CLOSE_SECONDS
        self._over.set()

    async def run(self, *, task_status: TaskStatus[ThingT]) -> None:
        origin, scope = self._selected.origin, self._scope
        scope.deadline = anyio.current_time() + OPEN_SECONDS
        with scope:
            try:
                with blame(origin, "open"):
                    async with self._selected.plug.open(self._settings, self._host) as thing:
                        # It outlives whatever ends those who use it, until they have let go.
                        scope.deadline, scope.shield = math.inf, True
                        task_status.started(thing)
                        await self._over.wait()
            except LongshoreError as exc:
                if not self._over.is_set():
                    raise
                log.warning("Plugin did not close in order", why=str(exc))
        if not self._over.is_set():
            late = f"was not open within {OPEN_SECONDS:g} seconds"
            raise PluginCrash(origin.label, late if scope.cancelled_caught else "ended by itself")
        if scope.cancelled_caught:
            log.warning("Plugin did not close in time", plugin=origin.label)


@dataclass(frozen=True, slots=True)
class AdaptedDriver(Driver, ImageStore, HealthStream, Pauser, Meter, LogStore, Executor):
    """A driver and all its abilities as the worker calls them.

    An ability that the driver does not declare raises UnsupportedCapability, without asking it.
    """

    runtime: Runtime
    origin: Installed

    @property
    def facts(self) -> Facts:
        return self.runtime.facts

    async def create(self, spec: ContainerSpec) -> Handle:
        """Raises UnsupportedCapability for what the driver does not declare, without asking it."""
        self._refuse_undeclared(spec)
        with blame(self.origin, "create"):
            handle = await self.runtime.driver.create(spec)
        return self._own(self._checked(handle, Handle, "create"), spec.id, "create")

    async def start(self, handle: Handle) -> Attachment:
        with blame(self.origin, "start"):
            attachment = await self.runtime.driver.start(handle)
        return self._checked(attachment, Attachment, "start")

    async def wait(self, handle: Handle) -> Exit:
        with blame(self.origin, "wait"):
            exit_ = await self.runtime.driver.wait(handle)
        return self._checked(exit_, Exit, "wait")

    async def signal(self, handle: Handle, signal: Signals) -> None:
        with blame(self.origin, "signal"):
            await self.runtime.driver.signal(handle, signal)

    async def remove(self, handle: Handle) -> None:
        with blame(self.origin, "remove"):
            await self.runtime.driver.remove(handle)

    async def survey(self) -> Sequence[Found]:
        with blame(self.origin, "survey"):
            survey = list(await self.runtime.driver.survey())
        checked = [self._checked(found, Found, "survey") for found in survey]
        for found in checked:
            self._own(found.handle, found.id, "survey")
        return checked

    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        images = self._declared(self.runtime.images, "a store of images")
        with blame(self.origin, "ensure"):
            await images.ensure(reference, progress)

    @asynccontextmanager
    async def fingerprints(self) -> AsyncGenerator[AsyncIterator[Fingerprint]]:
        health = self._declared(self.runtime.health, "fingerprints of its engine")
        with blame(self.origin, "fingerprints"):
            opening = health.fingerprints()
        async with stream(self.origin, "fingerprints", opening, Fingerprint) as fingerprints:
            yield fingerprints

    async def pause(self, handle: Handle) -> None:
        pauser = self._declared(self.runtime.pause, "pauses")
        with blame(self.origin, "pause"):
            await pauser.pause(handle)

    async def resume(self, handle: Handle) -> None:
        pauser = self._declared(self.runtime.pause, "pauses")
        with blame(self.origin, "resume"):
            await pauser.resume(handle)

    async def usage(self, handle: Handle) -> Usage:
        meter = self._declared(self.runtime.usage, "measures of usage")
        with blame(self.origin, "usage"):
            usage = await meter.usage(handle)
        return expected(self.origin, "usage", usage, Usage)

    @asynccontextmanager
    async def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[AsyncIterator[Chunk]]:
        store = self._declared(self.runtime.logs, "logs")
        with blame(self.origin, "logs"):
            opening = store.logs(handle, offset=offset, follow=follow)
        async with stream(self.origin, "logs", opening, Chunk) as chunks:
            yield chunks

    @asynccontextmanager
    async def run(
        self, handle: Handle, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None
    ) -> AsyncGenerator[Running]:
        executor = self._declared(self.runtime.exec, "programs beside PID 1")
        with blame(self.origin, "run"):
            opening = executor.run(handle, argv, env=env, cwd=cwd)
        async with lent(self.origin, "run", opening) as process:
            yield LentProcess(process, self.origin)

    def _declared(self, ability: ThingT | None, what: str) -> ThingT:
        if ability is None:
            raise UnsupportedCapability(f"the driver {self.origin.label} does not declare {what}")
        return ability

    def _refuse_undeclared(self, spec: ContainerSpec) -> None:
        wanted = {
            Limit.CPU: spec.limits.cpu_millis,
            Limit.MEMORY: spec.limits.memory_bytes,
            Limit.DISK: spec.limits.disk_bytes,
            Limit.PIDS: spec.limits.pids,
        }
        undeclared = [limit for limit in wanted if limit not in self.facts.limits]
        lacking = [f"a limit of {limit}" for limit in undeclared if wanted[limit] is not None]
        if spec.sockets and self.facts.programs and not self.facts.sockets:
            lacking.append("a directory for sockets")
        if lacking:
            raise UnsupportedCapability(
                f"container {spec.id} asks for {', '.join(lacking)}, which the driver "
                f"{self.origin.label} does not declare"
            )

    def _own(self, handle: Handle, id_: str, operation: str) -> Handle:
        if handle.id != id_:
            message = f"{operation} returned the handle of {handle.id!r} for {id_!r}"
            raise PluginContractError(self.origin.label, message)
        return handle

    def _checked(self, thing: object, kind: type[ThingT], operation: str) -> ThingT:
        """`thing` as the next worker would read it: what it could not must never be stored."""
        expected(self.origin, operation, thing, kind)
        stored = _STORED[kind]
        try:
            return cast("ThingT", stored.validate_json(stored.dump_json(thing, warnings="error")))
        except ValueError as exc:
            message = f"{operation} returned a {kind.__name__} that cannot be stored"
            raise PluginContractError(self.origin.label, message) from exc
