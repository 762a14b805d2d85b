"""The driver. Its memory is the directories; whatever it says, it looks up when it is asked."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    ContainerSpec,
    EngineUnavailable,
    Exit,
    Found,
    Handle,
    Host,
    Phase,
    UnixReach,
)
from longshore_core.abc import Driver

from longshore_forkexec.cgroups import Cgroups
from longshore_forkexec.config import Config, environment
from longshore_forkexec.directories import Directories
from longshore_forkexec.ending import dismantle, runners, strike
from longshore_forkexec.launch import PASSING, Spawned, hear, refusal, spawn
from longshore_forkexec.processes import COOKIE, Endings, Process, bearing, boot_id, send
from longshore_forkexec.records import Directory, Launch
from longshore_forkexec.shim import READY, WORK
from longshore_forkexec.specs import check

if TYPE_CHECKING:
    from longshore_forkexec.shim import Order

ResultT = TypeVar("ResultT")

SCHEMA: Final = 1
"""Of our handles. They name a container, and its directory says the rest."""

SOCKETS: Final = "LONGSHORE_SOCKETS"

_START_SECONDS: Final = 30
_END_SECONDS: Final = 10
_UNDO_SECONDS: Final = 15
_ROUND_SECONDS: Final = 0.2
_GRACE_ROUNDS: Final = 5
"""How often a shim is waited for, before it is killed too."""
_THREADS: Final = 8


@dataclass(slots=True, weakref_slot=True)
class _Seat:
    """What calls about one container share, for as long as there are any."""

    turn: anyio.Lock = field(default_factory=anyio.Lock)
    """Of `create`, `start` and `remove`, which must not meet."""
    exit: Exit | None = None
    """Left by `remove` to those who still wait."""


class ForkExecDriver(Driver):
    """Runs containers as processes of this host. They outlive it."""

    def __init__(self, config: Config, host: Host, groups: Cgroups) -> None:
        self._config = config
        self._owner = host.owner
        self._groups = groups
        self._directories = Directories(host.state_dir.resolve(), host.owner)
        self._boot = boot_id()
        self._endings = Endings()
        self._limiter = anyio.CapacityLimiter(_THREADS)
        self._seats = WeakValueDictionary[ContainerId, _Seat]()

    async def create(self, spec: ContainerSpec) -> Handle:
        """Make the container's directory. Raises UnsupportedCapability for a limit that cannot be
        enforced here."""
        check(spec, self._groups.limits)
        seat = self._seat(spec.id)
        # Two at once would each take the other's half-made directory for a leftover.
        async with seat.turn:
            with _blame_host(f"create container {spec.id}"):
                await self._in_thread(self._directories.make, spec)
        return Handle(id=spec.id, schema=SCHEMA)

    async def start(self, handle: Handle) -> Attachment:
        """Run PID 1 under a shim. Failed or cancelled, it leaves the container as it was created;
        one that has ended does not start again."""
        directory, seat = self._directory(handle), self._seat(handle.id)
        async with seat.turn:
            with _blame_host(f"start container {handle.id}"):
                spec = await self._in_thread(self._directories.spec, directory)
                if spec is None:
                    raise BackendError(f"there is no container {handle.id} to start")
                match self._phase(directory):
                    case Phase.CREATED:
                        if directory.launch() is not None:
                            # A worker died over this, and its shim may be about to begin.
                            await self._undo(directory, spec)
                        await self._launch(directory, spec)
                    case Phase.RUNNING:
                        pass
                    case Phase.EXITED:
                        raise BackendError(f"container {handle.id} has ended and starts only once")
        return _attachment(directory, spec)

    async def wait(self, handle: Handle) -> Exit:
        """Wait for the shim, which ends when all of the container has; and for PID 1, should
        somebody have killed the shim. Raises BackendError for what was not started."""
        directory, seat = self._directory(handle), self._seat(handle.id)
        known = self._directories.spec(directory) is not None
        if not known or (directory.life() is None and directory.exit() is None):
            raise BackendError(f"container {handle.id} does not run, so that it cannot end")
        while running := runners(directory.life(), self._boot):
            for process in running:
                await self._endings.wait(process)
        return directory.exit() or seat.exit or Exit()

    async def signal(self, handle: Handle, signal: Signals) -> None:
        """Send PID 1 a signal. One that was not started swallows it, too."""
        directory = self._directory(handle)
        life = directory.life() if self._directories.spec(directory) else None
        if life and life.main in runners(life, self._boot):
            with _blame_host(f"send {signal.name} to container {handle.id}"):
                send(life.main, signal)

    async def remove(self, handle: Handle) -> None:
        """Kill what runs, then delete groups and directory. Raises BackendError, retryable, when
        a process outlives that."""
        directory, seat = self._directory(handle), self._seat(handle.id)
        async with seat.turn:
            with _blame_host(f"remove container {handle.id}"):
                if await self._in_thread(self._is_there, directory):
                    await self._end(directory)
                    seat.exit = directory.exit()
                    await self._in_thread(self._directories.discard, directory)
        # Those who wait keep this seat; a new container under the id is not to find it.
        self._seats.pop(handle.id, None)

    async def survey(self) -> Sequence[Found]:
        """Read all directories."""
        try:
            with _blame_host("look for containers"):
                return await self._in_thread(self._survey)
        except BackendError as exc:
            raise EngineUnavailable(str(exc)) from exc

    # Starting.

    async def _launch(self, directory: Directory, spec: ContainerSpec) -> None:
        spawned: Spawned | None = None
        try:
            with anyio.fail_after(_START_SECONDS):
                spawned = await self._in_thread(self._spawn, directory, spec)
                await self._in_thread(self._groups.shelter, spawned.shim.pid)
                report = await hear(spawned.report)
            if report != READY:
                raise refusal(spec.id, report or directory.complaint())
        except BaseException:
            with anyio.move_on_after(_UNDO_SECONDS, shield=True):
                if spawned is not None:
                    send(spawned.shim, SIGKILL)
                    await self._endings.wait(spawned.shim)
                await self._undo(directory, spec)
            raise
        finally:
            if spawned is not None:
                os.close(spawned.report)

    def _spawn(self, directory: Directory, spec: ContainerSpec) -> Spawned:
        paths = self._groups.paths(spec.id)
        # On record first: who comes after us must find what we are about to make.
        directory.record_launch(Launch(cgroups=paths))
        pids = spec.limits.pids or self._config.pids_limit
        self._groups.make(spec.id, replace(spec.limits, pids=pids))
        cookie = self._cookie(directory)
        marks = {COOKIE: cookie} | ({SOCKETS: str(directory.sockets)} if spec.sockets else {})
        given = {"HOME": str(directory.path / WORK), **spec.env, **marks}
        order: Order = {
            "directory": str(directory.path),
            "boot": self._boot,
            "argv": list(spec.argv),
            "env": environment(self._config, given),
            "cwd": spec.cwd,
            "cgroups": [str(path) for path in paths],
            "rlimits": list(self._config.rlimits.items()),
        }
        return spawn(order, cookie)

    async def _undo(self, directory: Directory, spec: ContainerSpec) -> None:
        await self._end(directory, at_once=True)
        await self._in_thread(directory.forget_start, spec)

    # Ending.

    def _is_there(self, directory: Directory) -> bool:
        """Whether there is anything of a container: also when somebody has deleted its directory,
        which then is made again with what is needed to end the container."""
        if self._directories.holds(directory):
            return True
        groups = self._groups.paths(directory.id)
        left = any(path.exists() for path in groups) or bearing(self._cookie(directory))
        if left and directory.asked() is None:
            directory.path.mkdir()
            directory.record_launch(Launch(cgroups=groups))
            return True
        return False

    async def _end(self, directory: Directory, *, at_once: bool = False) -> None:
        """Return when nothing of the container runs and its groups are gone."""
        remaining = frozenset[Process]()
        with anyio.move_on_after(_END_SECONDS):
            for round_ in itertools.count():
                forced = at_once or round_ >= _GRACE_ROUNDS
                remaining = await self._in_thread(self._strike, directory, forced)
                if not remaining:
                    if await self._in_thread(dismantle, directory):
                        return
                    # The last process is on its way out of its group; nothing tells when it is.
                    await anyio.sleep(0.005)
                with anyio.move_on_after(_ROUND_SECONDS):
                    for process in remaining:
                        await self._endings.wait(process)
        pids = ", ".join(str(process.pid) for process in remaining)
        what = f"processes {pids} of container {directory.id} outlive SIGKILL"
        busy = f"the cgroups of container {directory.id} stay busy"
        raise BackendError(what if remaining else busy, retryable=True)

    def _strike(self, directory: Directory, forced: bool) -> frozenset[Process]:
        return strike(directory, self._cookie(directory), self._boot, forced=forced)

    # Looking.

    def _survey(self) -> list[Found]:
        found = [self._find(directory, spec) for directory, spec in self._directories.all()]
        # What was removed meanwhile may have been seen half gone.
        return [each for each in found if self._directories.at(each.id).asked()]

    def _find(self, directory: Directory, spec: ContainerSpec) -> Found:
        phase = self._phase(directory)
        return Found(
            id=spec.id,
            handle=Handle(id=spec.id, schema=SCHEMA),
            phase=phase,
            attachment=_attachment(directory, spec) if phase is Phase.RUNNING else None,
            exit=directory.exit() or Exit() if phase is Phase.EXITED else None,
        )

    def _phase(self, directory: Directory) -> Phase:
        life = directory.life()
        if directory.exit() is None:
            if life is None:
                return Phase.CREATED
            if runners(life, self._boot):
                return Phase.RUNNING
        return Phase.EXITED

    # What all of them need.

    def _directory(self, handle: Handle) -> Directory:
        if handle.schema != SCHEMA:
            raise BackendError(
                f"the handle of container {handle.id} has schema {handle.schema}; this driver "
                f"knows {SCHEMA}"
            )
        return self._directories.at(handle.id)

    def _seat(self, id_: ContainerId) -> _Seat:
        return self._seats.setdefault(id_, _Seat())

    def _cookie(self, directory: Directory) -> str:
        return f"{self._owner}:{directory.path}"

    async def _in_thread(self, call: Callable[..., ResultT], *args: object) -> ResultT:
        return await anyio.to_thread.run_sync(call, *args, limiter=self._limiter)


def _attachment(directory: Directory, spec: ContainerSpec) -> Attachment:
    reach = UnixReach(str(directory.sockets)) if spec.sockets else None
    return Attachment(reach=reach, image_applied=False)


@contextmanager
def _blame_host(attempt: str) -> Generator[None, None, None]:
    """Turn what the host refuses into a BackendError."""
    try:
        yield
    except TimeoutError as exc:
        raise BackendError(f"cannot {attempt}: it takes too long", retryable=True) from exc
    except OSError as exc:
        retryable = exc.errno in PASSING
        raise BackendError(f"cannot {attempt}: {exc}", retryable=retryable) from exc
