"""Opening what a plugin offers, and calling a driver: always through here, for every plugin alike.

The adapter is where a plugin meets its contract: its config is validated, its handle makes the
round trip through JSON that a restart would make, and whatever it raises names it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from signal import Signals
from typing import Any, Final, TypeVar

import anyio
from pydantic import TypeAdapter, ValidationError

from longshore_core._errors import PluginContractError, UnsupportedCapability
from longshore_core._model import Attachment, ContainerSpec, Exit, Facts, Found, Handle, Limit
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import Selected, blame
from longshore_core.abc import Driver, Host, Runtime
from longshore_core.process import config

ThingT = TypeVar("ThingT")

CLOSE_SECONDS: Final = 10.0
_HANDLE: Final = TypeAdapter(Handle)


@asynccontextmanager
async def opened(
    selected: Selected[ThingT], options: dict[str, Any], host: Host, path: str
) -> AsyncGenerator[ThingT]:
    """Validate a plugin's section of the config and open its backend.

    Raises ConfigError with the YAML path, PluginCrash. Its exit is shielded, with a deadline.
    """
    at = tuple(int(step) if step.isdigit() else step for step in path.split("."))
    settings = config.validate(selected.plug.config, options, at=at)
    with blame(selected.origin, "open"):
        backend = selected.plug.open(settings, host)
        thing = await backend.__aenter__()
    try:
        yield thing
    finally:
        with anyio.move_on_after(CLOSE_SECONDS, shield=True), blame(selected.origin, "close"):
            await backend.__aexit__(None, None, None)


@dataclass(frozen=True, slots=True)
class AdaptedDriver(Driver):
    """A driver as the worker calls it."""

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
        return self._checked(handle, spec.id, "create")

    async def start(self, handle: Handle) -> Attachment:
        with blame(self.origin, "start"):
            attachment = await self.runtime.driver.start(handle)
        return self._expect(attachment, Attachment, "start")

    async def wait(self, handle: Handle) -> Exit:
        with blame(self.origin, "wait"):
            exit_ = await self.runtime.driver.wait(handle)
        return self._expect(exit_, Exit, "wait")

    async def signal(self, handle: Handle, signal: Signals) -> None:
        with blame(self.origin, "signal"):
            await self.runtime.driver.signal(handle, signal)

    async def remove(self, handle: Handle) -> None:
        with blame(self.origin, "remove"):
            await self.runtime.driver.remove(handle)

    async def survey(self) -> Sequence[Found]:
        with blame(self.origin, "survey"):
            survey = await self.runtime.driver.survey()
        for found in survey:
            self._checked(self._expect(found, Found, "survey").handle, found.id, "survey")
        return survey

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

    def _checked(self, handle: object, id_: str, operation: str) -> Handle:
        checked = self._expect(handle, Handle, operation)
        if checked.id != id_:
            message = f"{operation} returned the handle of {checked.id!r} for {id_!r}"
            raise PluginContractError(self.origin.label, message)
        try:
            return _HANDLE.validate_json(_HANDLE.dump_json(checked))
        except (ValidationError, ValueError) as exc:
            message = f"{operation} returned a handle that JSON cannot hold"
            raise PluginContractError(self.origin.label, message) from exc

    def _expect(self, thing: object, kind: type[ThingT], operation: str) -> ThingT:
        if not isinstance(thing, kind):
            found = type(thing).__name__
            message = f"{operation} returned a {found}, not {kind.__name__}"
            raise PluginContractError(self.origin.label, message)
        return thing
