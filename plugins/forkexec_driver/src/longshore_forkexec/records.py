"""What is known of a container, as files in its directory.

    spec.json     what was asked for, and by whom          the driver, at create
    launch.json   the cgroups that it is started in        the driver, at start
    life.json     who its shim and its PID 1 are           the shim
    exit.json     how PID 1 ended                          the shim
    cleared       nothing of it runs any more              the shim, its last act
    stdout, stderr, shim.log                               what PID 1 and the shim wrote
    s/, work/     the guest's sockets; the working directory, and HOME

The directory is the whole truth: the driver keeps nothing beside it, and a handle only names it.
Each file is put in place whole, and carries its version.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from longshore_core import BackendError, ContainerId, ContainerSpec, Exit
from longshore_core.trees import delete_tree
from pydantic import TypeAdapter, ValidationError

from longshore_forkexec.processes import Process
from longshore_forkexec.shim import CLEARED, EXIT, LIFE, LOG, WORK

RecordT = TypeVar("RecordT")

_SPEC: Final = "spec.json"
_LAUNCH: Final = "launch.json"
_LOG_TAIL: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for, and by whom."""

    version: Literal[1] = 1
    owner: str
    spec: ContainerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Where the shim was told to put the container, before it was started."""

    version: Literal[1] = 1
    cgroups: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Who runs. `main` is PID 1; `None` while the shim is about to start it."""

    version: Literal[1] = 1
    boot: str
    shim: Process
    main: Process | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How PID 1 ended: by a code, or by a signal."""

    version: Literal[1] = 1
    code: int | None = None
    signal: int | None = None
    oom: bool = False


# What the machine's loss of power can make of life.json, which is not waited for on its way to the
# disk. Of a boot that never was, so nothing of it lives.
_LOST: Final = Life(boot="", shim=Process(0, 0), main=None)

_ASKED: Final = TypeAdapter(Asked)
_LAUNCHED: Final = TypeAdapter(Launch)
_LIFE: Final = TypeAdapter(Life)
_ENDING: Final = TypeAdapter(Ending)


class Directory:
    """One container's directory. Reads when it is asked, and raises BackendError for a record
    that it does not understand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sockets = path / "s"

    @property
    def id(self) -> ContainerId:
        return ContainerId(self.path.name)

    def asked(self) -> Asked | None:
        """`None` when there is no such container."""
        return _read(self.path / _SPEC, _ASKED)

    def launch(self) -> Launch | None:
        """`None` when nobody has tried to start it."""
        return _read(self.path / _LAUNCH, _LAUNCHED)

    def life(self) -> Life | None:
        """`None` when it was not started."""
        return _read(self.path / LIFE, _LIFE, lost=_LOST)

    def exit(self) -> Exit | None:
        """`None` when PID 1 has not ended, or ended unseen."""
        ending = _read(self.path / EXIT, _ENDING)
        if ending is None:
            return None
        return Exit(code=ending.code, signal=ending.signal, oom=ending.oom)

    def is_cleared(self) -> bool:
        """Whether the shim has seen the last process of the container end."""
        return (self.path / CLEARED).exists()

    def complaint(self) -> str:
        """The end of what the shim wrote, when it broke."""
        try:
            return (self.path / LOG).read_text(errors="replace").strip()[-_LOG_TAIL:]
        except FileNotFoundError:
            return ""

    def fill(self, asked: Asked) -> None:
        """Make a new directory complete; it is on the disk on return."""
        _write(self.path / _SPEC, _ASKED.dump_json(asked), durable=True)
        self._furnish(asked.spec)
        sync(self.path)

    def record_launch(self, launch: Launch) -> None:
        _write(self.path / _LAUNCH, _LAUNCHED.dump_json(launch))

    def forget_start(self, spec: ContainerSpec) -> None:
        """Make it as it was when it was created."""
        for entry in os.scandir(self.path):
            if entry.is_dir(follow_symlinks=False):
                delete_tree(Path(entry.path))
            elif entry.name not in {_SPEC, _LAUNCH}:
                os.unlink(entry.path)
        (self.path / _LAUNCH).unlink(missing_ok=True)
        self._furnish(spec)

    def _furnish(self, spec: ContainerSpec) -> None:
        (self.path / WORK).mkdir(mode=0o700)
        if spec.sockets:
            self.sockets.mkdir(mode=0o700)


def sync(directory: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, adapter: TypeAdapter[RecordT], lost: RecordT | None = None) -> RecordT | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if lost is not None and not data.strip(b"\0"):
        return lost
    try:
        return adapter.validate_json(data)
    except ValidationError as exc:
        raise BackendError(f"{path} cannot be understood: {exc.errors()[0]['msg']}") from exc


def _write(path: Path, data: bytes, *, durable: bool = False) -> None:
    draft = path.with_name(f"{path.name}.new")
    with draft.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
