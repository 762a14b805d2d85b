"""The driver `acme`: each container is a process, and ends with the worker."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGKILL, Signals
from subprocess import DEVNULL, Popen

import anyio
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
from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What operators may write beside `type: acme`."""

    model_config = ConfigDict(extra="forbid")

    command: tuple[str, ...] = ("setpriv", "--pdeathsig", "KILL")
    """Put before the container's own; this one has it end with the worker, come what may."""


class AcmeDriver(Driver):
    def __init__(self, config: Config, place: Path) -> None:
        self.command, self.place = config.command, place
        self.specs: dict[ContainerId, ContainerSpec] = {}
        self.processes: dict[ContainerId, Popen[bytes]] = {}

    async def create(self, spec: ContainerSpec) -> Handle:
        self.specs.setdefault(spec.id, spec)
        return Handle(id=spec.id)

    async def start(self, handle: Handle) -> Attachment:
        spec, process = self.specs.get(handle.id), self.processes.get(handle.id)
        if spec is None or (process and process.poll() is not None):
            raise BackendError(f"container {handle.id} is gone and cannot be started")
        if process is None:
            self.processes[handle.id] = run([*self.command, *spec.argv], spec, self.place)
        return ATTACHMENT

    async def wait(self, handle: Handle) -> Exit:
        if (process := self.processes.get(handle.id)) is None:
            raise BackendError(f"container {handle.id} does not run, so that it cannot end")
        await ended(process)
        return exit_of(process)

    async def signal(self, handle: Handle, signal: Signals) -> None:
        process = self.processes.get(handle.id)
        if process is not None and process.poll() is None:
            process.send_signal(signal)

    async def remove(self, handle: Handle) -> None:
        if process := self.processes.get(handle.id):
            with suppress(ProcessLookupError):  # it leads a group: what it has started ends, too
                os.killpg(process.pid, SIGKILL)
            await ended(process)
            self.processes.pop(handle.id, None)
        self.specs.pop(handle.id, None)

    async def survey(self) -> Sequence[Found]:
        return [found(id_, self.processes.get(id_)) for id_ in self.specs]


ATTACHMENT = Attachment(image_applied=False)


def run(argv: Sequence[str], spec: ContainerSpec, place: Path) -> Popen[bytes]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), **spec.env}
    program = spec.argv[0] if spec.argv else ""
    if not shutil.which(program, path=environment["PATH"]):
        raise BackendError(f"container {spec.id}: there is no program {program!r}")
    try:
        return Popen(
            argv,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            cwd=spec.cwd or place,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        raise BackendError(f"container {spec.id}: cannot run {program!r}: {exc}") from exc


async def ended(process: Popen[bytes]) -> None:
    while process.poll() is None:
        descriptor = os.pidfd_open(process.pid)
        try:
            await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)


def exit_of(process: Popen[bytes]) -> Exit:
    code = process.returncode
    return Exit(code=code) if code >= 0 else Exit(signal=-code)


def found(id_: ContainerId, process: Popen[bytes] | None) -> Found:
    handle = Handle(id=id_)
    if process is None:
        return Found(id=id_, handle=handle, phase=Phase.CREATED)
    if process.poll() is not None:
        return Found(id=id_, handle=handle, phase=Phase.EXITED, exit=exit_of(process))
    return Found(id=id_, handle=handle, phase=Phase.RUNNING, attachment=ATTACHMENT)


@asynccontextmanager
async def open_acme(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    driver = AcmeDriver(config, host.state_dir)
    # What is declared must work, and is proved; what is not is refused. Declare more as you go.
    facts = Facts(images=False, mounts=False, sockets=False, recovers=False)
    try:
        yield Runtime(driver=driver, facts=facts)
    finally:
        for each in await driver.survey():
            await driver.remove(each.handle)


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    return Plug(config=Config, open=open_acme)
