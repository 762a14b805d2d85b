"""Containers as processes behind a command of your choice. They end with the worker."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals

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
    UnixReach,
    hookimpl,
)
from longshore_core.abc import Driver, Runtime
from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What operators may write beside `type: prefix`."""

    model_config = ConfigDict(extra="forbid")

    command: tuple[str, ...] = ("setpriv", "--pdeathsig", "KILL")
    """Put before the container's own command."""


@dataclass(slots=True)
class Container:
    spec: ContainerSpec
    place: Path
    process: Process | None = None

    @property
    def attachment(self) -> Attachment:
        reach = UnixReach(str(self.place / "s")) if self.spec.sockets else None
        return Attachment(reach=reach, image_applied=False)

    @property
    def exit(self) -> Exit | None:
        code = self.process.returncode if self.process else None
        if code is None:
            return None
        return Exit(code=code) if code >= 0 else Exit(signal=-code)


class PrefixDriver(Driver):
    """Keeps its containers in memory: none of them outlives it."""

    def __init__(self, config: Config, host: Host) -> None:
        self._config = config
        self._places = host.state_dir / "containers"
        self._containers: dict[ContainerId, Container] = {}

    async def create(self, spec: ContainerSpec) -> Handle:
        if spec.id not in self._containers:
            # Ids are not file names, and a Unix socket's path has to be short.
            place = self._places / hashlib.sha256(spec.id.encode()).hexdigest()[:12]
            for directory in (place / "s", place / "work"):
                directory.mkdir(mode=0o700, parents=True)
            self._containers[spec.id] = Container(spec, place)
        return Handle(id=spec.id)

    async def start(self, handle: Handle) -> Attachment:
        container = self._containers.get(handle.id)
        if container is None or container.exit is not None:
            raise BackendError(f"container {handle.id} is gone and cannot be started")
        if container.process is None:
            argv = (*self._config.command, *container.spec.argv)
            try:
                container.process = await anyio.open_process(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=container.spec.cwd or container.place / "work",
                    env=self._environment(container),
                    start_new_session=True,
                )
            except OSError as exc:
                raise BackendError(f"cannot run {argv[0]}: {exc.strerror}") from exc
        return container.attachment

    async def wait(self, handle: Handle) -> Exit:
        container = self._containers.get(handle.id)
        if container is not None and container.process is not None:
            await container.process.wait()
        return (container and container.exit) or Exit()

    async def signal(self, handle: Handle, signal: Signals) -> None:
        container = self._containers.get(handle.id)
        if container is not None and container.process is not None and container.exit is None:
            container.process.send_signal(signal)

    async def remove(self, handle: Handle) -> None:
        container = self._containers.get(handle.id)
        if container is None:
            return
        if container.process is not None:
            # It leads its session: this reaches what it has started, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(container.process.pid, SIGKILL)
            await container.process.wait()
        shutil.rmtree(container.place, ignore_errors=True)
        del self._containers[handle.id]

    async def survey(self) -> Sequence[Found]:
        return [self._found(id_, container) for id_, container in self._containers.items()]

    def _environment(self, container: Container) -> Mapping[str, str]:
        path, home = os.environ.get("PATH", os.defpath), str(container.place / "work")
        environment = {"PATH": path, "HOME": home, **container.spec.env}
        if container.spec.sockets:
            environment["LONGSHORE_SOCKETS"] = str(container.place / "s")
        return environment

    def _found(self, id_: ContainerId, container: Container) -> Found:
        handle, exit_ = Handle(id=id_), container.exit
        if exit_ is not None:
            return Found(id=id_, handle=handle, phase=Phase.EXITED, exit=exit_)
        if container.process is None:
            return Found(id=id_, handle=handle, phase=Phase.CREATED)
        return Found(id=id_, handle=handle, phase=Phase.RUNNING, attachment=container.attachment)


@asynccontextmanager
async def open_prefix(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    """Everything before the `yield` is start-up, everything after it is the end."""
    # A worker that was killed has left directories; the processes went with it.
    shutil.rmtree(host.state_dir / "containers", ignore_errors=True)
    driver = PrefixDriver(config, host)
    try:
        # Undeclared abilities are refused by the kernel: this driver has no images, no limits.
        yield Runtime(driver=driver, facts=Facts(images=False, mounts=False))
    finally:
        for found in await driver.survey():
            await driver.remove(found.handle)


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    """The one function that makes this module a plugin."""
    return Plug(config=Config, open=open_prefix)
