"""A third party's driver: each container is a process, kept in memory only."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from signal import Signals

import anyio
from anyio.abc import Process
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
    TcpReach,
    hookimpl,
)
from longshore_core.abc import Driver, Runtime
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    prefix: tuple[str, ...] = ()


class PrefixDriver(Driver):
    def __init__(self, config: Config) -> None:
        self.prefix = config.prefix
        self.specs: dict[ContainerId, ContainerSpec] = {}
        self.running: dict[ContainerId, Process] = {}

    async def create(self, spec: ContainerSpec) -> Handle:
        self.specs[spec.id] = spec
        return Handle(id=spec.id)

    async def start(self, handle: Handle) -> Attachment:
        if handle.id not in self.running:
            command = [*self.prefix, *self.specs[handle.id].argv]
            try:
                self.running[handle.id] = await anyio.open_process(command, stdin=None)
            except OSError as exc:
                raise BackendError(str(exc)) from exc
        return Attachment(reach=TcpReach("127.0.0.1"), image_applied=False)

    async def wait(self, handle: Handle) -> Exit:
        return Exit(code=await self.running[handle.id].wait())

    async def signal(self, handle: Handle, signal: Signals) -> None:
        process = self.running.get(handle.id)
        if process is not None and process.returncode is None:
            process.send_signal(signal)

    async def remove(self, handle: Handle) -> None:
        self.specs.pop(handle.id, None)
        process = self.running.pop(handle.id, None)
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.aclose()

    async def survey(self) -> Sequence[Found]:
        return [Found(id=id_, handle=Handle(id=id_), phase=Phase.CREATED) for id_ in self.specs]


@asynccontextmanager
async def open_prefix(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    driver = PrefixDriver(config)
    try:
        yield Runtime(driver=driver, facts=Facts(images=False, mounts=False))
    finally:
        for found in await driver.survey():
            await driver.remove(found.handle)


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    return Plug(config=Config, open=open_prefix)
