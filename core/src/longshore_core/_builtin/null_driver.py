"""The `null` driver: containers that exist and run nothing. For trying the rest without them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from signal import Signals

import anyio
from pydantic import BaseModel, ConfigDict

from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    ContainerSpec,
    Exit,
    Facts,
    Found,
    Handle,
    Host,
    Phase,
    Plug,
    hookimpl,
)
from longshore_core.abc import Driver, Runtime


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


@dataclass(slots=True)
class _Nothing:
    """One container: where it stands, and who is waiting for it to end."""

    found: Found
    ended: anyio.Event = field(default_factory=anyio.Event)


class NullDriver(Driver):
    """Keeps containers in memory; PID 1 ends when it is signalled."""

    def __init__(self) -> None:
        self._containers: dict[ContainerId, _Nothing] = {}

    async def create(self, spec: ContainerSpec) -> Handle:
        handle = Handle(id=spec.id)
        found = Found(id=spec.id, handle=handle, phase=Phase.CREATED)
        self._containers.setdefault(spec.id, _Nothing(found))
        return handle

    async def start(self, handle: Handle) -> Attachment:
        container = self._containers.get(handle.id)
        if container is None or container.found.phase is Phase.EXITED:
            raise BackendError(f"container {handle.id} cannot be started: it is gone")
        attachment = Attachment(image_applied=False)
        container.found = replace(container.found, phase=Phase.RUNNING, attachment=attachment)
        return attachment

    async def wait(self, handle: Handle) -> Exit:
        container = self._containers.get(handle.id)
        if container is None:
            return Exit()
        await container.ended.wait()
        return container.found.exit or Exit()

    async def signal(self, handle: Handle, signal: Signals) -> None:
        container = self._containers.get(handle.id)
        if container is not None and container.found.phase is Phase.RUNNING:
            self._end(container, Exit(signal=signal))

    async def remove(self, handle: Handle) -> None:
        container = self._containers.pop(handle.id, None)
        if container is not None:
            self._end(container, Exit(signal=Signals.SIGKILL))

    async def survey(self) -> Sequence[Found]:
        return [container.found for container in self._containers.values()]

    def _end(self, container: _Nothing, exit_: Exit) -> None:
        if container.found.phase is not Phase.EXITED:
            container.found = replace(
                container.found, phase=Phase.EXITED, attachment=None, exit=exit_
            )
        container.ended.set()


@asynccontextmanager
async def open_null(_config: Config, _host: Host) -> AsyncGenerator[Runtime]:
    """Nothing to open, and nothing to close."""
    facts = Facts(programs=False, sockets=False, images=False, mounts=False)
    yield Runtime(driver=NullDriver(), facts=facts)


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    return Plug(config=Config, open=open_null)
