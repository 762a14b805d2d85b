"""Containers that follow a script: they start, say, run and end as it says, and nothing runs.

What they have come to is kept in files, so that a driver that is opened again finds them, as an
engine's client finds what the engine runs. Time is the host's clock.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Final, Literal, TypeAlias

import anyio
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from longshore_core._errors import (
    BackendError,
    CapacityExhausted,
    EngineUnavailable,
    GuestError,
    ImageError,
    LongshoreError,
    UnsupportedCapability,
)
from longshore_core._model import (
    Attachment,
    Chunk,
    ContainerId,
    ContainerSpec,
    Exit,
    Found,
    Handle,
    Phase,
    Stream,
)
from longshore_core.abc import Driver, LogStore
from longshore_core.testing.output import chunks_from

ErrorName: TypeAlias = Literal[
    "backend", "capacity", "engine_unavailable", "guest", "image", "unsupported"
]
"""How a script, or a fault, names an error of ours."""

STARTS: Final = "starts.log"
"""In the driver's directory: the id of each container whose PID 1 was started, a line each."""

_KINDS: Final[Mapping[str, type[BackendError]]] = {
    "backend": BackendError,
    "engine_unavailable": EngineUnavailable,
    "guest": GuestError,
    "image": ImageError,
    "unsupported": UnsupportedCapability,
}


def error(name: ErrorName, message: str) -> LongshoreError:
    """The error that bears this name."""
    if name == "capacity":
        return CapacityExhausted(message, requested=1, available=0)
    return _KINDS[name](message)


class Script(BaseModel):
    """How a container behaves. The default runs until it is signalled, and obeys at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = "*"
    """Which containers follow it: a pattern with `*` for the image, a space, and the argv."""
    create_error: ErrorName | None = None
    start_error: ErrorName | None = None
    start_block_for: float = Field(default=0, ge=0)
    """How many seconds `start` takes."""
    run_for: float | None = Field(default=None, ge=0)
    """Seconds until PID 1 ends by itself; absent: it does not."""
    exit_code: int = Field(default=0, ge=0, le=255)
    exit_signal: int | None = Field(default=None, ge=1, le=64)
    """In place of the code."""
    oom: bool = False
    deaf: bool = False
    """Ends at SIGKILL only."""
    stdout: str = ""
    stderr: str = ""
    repeat: int = Field(default=1, ge=0)
    """How often the output is written."""

    @property
    def exit(self) -> Exit:
        if self.exit_signal is not None:
            return Exit(signal=self.exit_signal, oom=self.oom)
        return Exit(code=self.exit_code, oom=self.oom)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One container, as it is kept."""

    id: ContainerId
    script: Script
    started_at: float | None = None
    killed: Exit | None = None
    """How it was ended, before its script had it end."""

    @property
    def remaining(self) -> float | None:
        """Seconds until it ends by itself; `None`: it does not."""
        if self.started_at is None or self.script.run_for is None:
            return None
        return self.started_at + self.script.run_for - time.time()

    @property
    def exit(self) -> Exit | None:
        if self.killed is not None:
            return self.killed
        ended = self.remaining is not None and self.remaining <= 0
        return self.script.exit if ended else None


_RECORD: Final = TypeAdapter(_Record)


class ScriptedDriver(Driver):
    """Plays scripts. `place` is the driver's own directory."""

    def __init__(self, scripts: Sequence[Script], place: Path) -> None:
        self._scripts = scripts
        self._place = place
        self._changes: dict[ContainerId, anyio.Event] = {}

    async def create(self, spec: ContainerSpec) -> Handle:
        if self._read(spec.id) is None:
            script = self._script(spec)
            if script.create_error is not None:
                raise error(script.create_error, f"the script of {spec.id} says so")
            self._write(_Record(id=spec.id, script=script))
        return Handle(id=spec.id)

    async def start(self, handle: Handle) -> Attachment:
        record = self._read(handle.id)
        if record is not None and record.started_at is None:
            await anyio.sleep(record.script.start_block_for)
            record = self._read(handle.id)
        if record is None or record.exit is not None:
            raise BackendError(f"container {handle.id} is gone and cannot be started")
        if record.script.start_error is not None:
            raise error(record.script.start_error, f"the script of {handle.id} says so")
        if record.started_at is None:
            self._begin(record)
        return _ATTACHMENT

    async def wait(self, handle: Handle) -> Exit:
        while (record := self._read(handle.id)) is not None:
            if record.exit is not None:
                return record.exit
            change = self._changes.setdefault(handle.id, anyio.Event())
            with anyio.move_on_after(record.remaining):
                await change.wait()
        return Exit()

    async def signal(self, handle: Handle, signal: Signals) -> None:
        record = self._read(handle.id)
        running = record is not None and record.started_at is not None and record.exit is None
        if record and running and (signal is SIGKILL or not record.script.deaf):
            self._write(replace(record, killed=Exit(signal=signal)))

    async def remove(self, handle: Handle) -> None:
        shutil.rmtree(self._at(handle.id), ignore_errors=True)
        self._changed(handle.id)

    async def survey(self) -> Sequence[Found]:
        files = sorted(self._place.glob("*/record.json"))
        return [_found(_RECORD.validate_json(file.read_bytes())) for file in files]

    def output(self, id_: ContainerId) -> tuple[str, str]:
        """What a container has written since it was started: stdout, stderr. Raises BackendError
        when there is no such container any more."""
        stdout, stderr = (self._at(id_) / name for name in ("stdout", "stderr"))
        try:
            return stdout.read_text(encoding="utf-8"), stderr.read_text(encoding="utf-8")
        except FileNotFoundError as exc:
            raise _absent(id_) from exc

    async def has_started(self, id_: ContainerId, *, wait: bool) -> bool:
        """Whether it has; if not, `wait` is for when it has. Raises BackendError when there is no
        such container, or none any more."""
        while (record := self._read(id_)) is not None:
            if record.started_at is not None or not wait:
                return record.started_at is not None
            await self._changes.setdefault(id_, anyio.Event()).wait()
        raise _absent(id_)

    def _script(self, spec: ContainerSpec) -> Script:
        shown = " ".join((spec.image or "", *spec.argv))
        fitting = (script for script in self._scripts if fnmatchcase(shown, script.match))
        return next(fitting, Script())

    def _begin(self, record: _Record) -> None:
        script, place = record.script, self._at(record.id)
        (place / "stdout").write_text(script.stdout * script.repeat, encoding="utf-8")
        (place / "stderr").write_text(script.stderr * script.repeat, encoding="utf-8")
        with (self._place / STARTS).open("a", encoding="utf-8") as log:
            log.write(f"{record.id}\n")
        self._write(replace(record, started_at=time.time()))

    def _read(self, id_: ContainerId) -> _Record | None:
        try:
            return _RECORD.validate_json((self._at(id_) / "record.json").read_bytes())
        except FileNotFoundError:
            return None

    def _write(self, record: _Record) -> None:
        place = self._at(record.id)
        place.mkdir(exist_ok=True)
        draft = place / "record.new"
        draft.write_bytes(_RECORD.dump_json(record))
        draft.replace(place / "record.json")
        self._changed(record.id)

    def _changed(self, id_: ContainerId) -> None:
        change = self._changes.pop(id_, None)
        if change is not None:
            change.set()

    def _at(self, id_: ContainerId) -> Path:
        # Ids are not file names.
        return self._place / hashlib.sha256(id_.encode()).hexdigest()[:16]


class ScriptedLogs(LogStore):
    """What the scripts have containers write: all of stdout, then all of stderr."""

    def __init__(self, driver: ScriptedDriver) -> None:
        self._driver = driver

    def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        return aclosing(self._chunks(handle, offset, follow))

    async def _chunks(self, handle: Handle, offset: int, follow: bool) -> AsyncGenerator[Chunk]:
        if not await self._driver.has_started(handle.id, wait=follow):
            return
        output = zip(Stream, self._driver.output(handle.id), strict=True)
        for chunk in chunks_from(output, offset):
            yield chunk
        if follow:
            await self._driver.wait(handle)


_ATTACHMENT: Final = Attachment(image_applied=False)


def _absent(id_: ContainerId) -> BackendError:
    return BackendError(f"there is no container {id_} whose logs could be read")


def _found(record: _Record) -> Found:
    handle = Handle(id=record.id)
    if record.exit is not None:
        return Found(id=record.id, handle=handle, phase=Phase.EXITED, exit=record.exit)
    if record.started_at is None:
        return Found(id=record.id, handle=handle, phase=Phase.CREATED)
    return Found(id=record.id, handle=handle, phase=Phase.RUNNING, attachment=_ATTACHMENT)
