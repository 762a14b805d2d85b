"""The model of a driver: containers in memory, that play the few words of shell in `programs`.

What a law says of drivers can be read here without a kernel, a clock or a file; and what breaks it,
the mutants, are small changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Final

import anyio
from anyio.lowlevel import checkpoint
from pydantic import BaseModel, ConfigDict

from longshore_core._errors import BackendError, EngineUnavailable
from longshore_core._model import (
    Attachment,
    ContainerSpec,
    Exit,
    Found,
    Handle,
    Phase,
    Stream,
)
from longshore_core.abc import Driver
from longshore_core.testing.clock import VirtualClock
from longshore_core.testing.programs import SHELL
from longshore_core.testing.reference_world import (
    Record,
    World,
    load_world,
    save_world,
)

SCHEMA: Final = 1

_CHECK: Final = re.compile(r'\[ "\$(\w+)" = "([^"]*)" \] \|\| exit (\d+)')
_TRAP: Final = re.compile(r"trap '(.*?)' (\w+)")


class Config(BaseModel):
    """`driver: {type: reference}`."""

    model_config = ConfigDict(extra="forbid")

    engine_away_file: Path | None = None
    """While there is such a file, its engine cannot be asked."""


@dataclass(slots=True)
class Modelled:
    """One container, and who waits for its end."""

    record: Record
    ended: anyio.Event = field(default_factory=anyio.Event)
    stirred: anyio.Event = field(default_factory=anyio.Event)
    """Set, and replaced, whenever something has happened to it."""
    removed: bool = False

    @classmethod
    def of(cls, record: Record) -> Modelled:
        container = cls(record)
        if record.phase is Phase.EXITED:
            container.ended.set()
        return container

    def stir(self) -> None:
        self.stirred.set()
        self.stirred = anyio.Event()


class ReferenceDriver(Driver):
    """Containers of one owner, in memory."""

    def __init__(self, config: Config, file: Path | None = None) -> None:
        self._config = config
        self._file = file
        world = World() if file is None else load_world(file)
        self.clock = VirtualClock(world.now)
        self.containers = {each.spec.id: Modelled.of(each) for each in world.records}

    async def create(self, spec: ContainerSpec) -> Handle:
        self.ask_engine()
        if not spec.argv or any("\0" in word for word in spec.argv):
            raise BackendError(
                f"container {spec.id}: its arguments are none that a process can have"
            )
        await checkpoint()
        if spec.id not in self.containers:
            self.containers[spec.id] = Modelled(Record(spec=spec))
            try:
                self._save()
            except BackendError:
                del self.containers[spec.id]
                raise
        return Handle(id=spec.id, schema=SCHEMA)

    async def start(self, handle: Handle) -> Attachment:
        container = self.known(handle)
        if container is None:
            raise BackendError(f"there is no container {handle.id} to start")
        await checkpoint()
        self._settle(container)
        if container.removed or container.record.phase is Phase.EXITED:
            raise BackendError(f"container {handle.id} has ended and starts only once")
        if container.record.phase is Phase.CREATED:
            spec = container.record.spec
            if spec.argv[0] != SHELL or (spec.cwd or "/").startswith("/nonexistent"):
                raise BackendError(f"container {spec.id}: cannot run {spec.argv[0]} in {spec.cwd}")
            created = deepcopy(container.record)
            container.record.phase = Phase.RUNNING
            self._play(container, _words(spec.argv[2]))
            try:
                self._save()
            except BackendError:
                container.record = created
                raise
        return self.attachment(container)

    async def wait(self, handle: Handle) -> Exit:
        container = self.known(handle)
        if container is None or container.record.phase is Phase.CREATED:
            raise BackendError(f"container {handle.id} does not run, so that it cannot end")
        while not container.ended.is_set():
            await self.change(container)
        return container.record.exit or Exit()

    async def signal(self, handle: Handle, signal: Signals) -> None:
        container = self.known(handle)
        await checkpoint()
        if container is None:
            return
        self._settle(container)
        if container.record.phase is not Phase.RUNNING:
            return
        heeded = container.record.traps.get(signal.name.removeprefix("SIG"))
        if heeded is None or signal is SIGKILL:
            self.end(container, Exit(signal=signal))
        elif heeded:
            self._play(container, _words(heeded))
        self._save()

    async def remove(self, handle: Handle) -> None:
        container = self.known(handle)
        await checkpoint()
        if container is not None:
            self.containers.pop(handle.id, None)
            container.removed = True
            self.end(container, Exit(signal=SIGKILL))
            self._save()

    async def survey(self) -> Sequence[Found]:
        self.ask_engine()
        await checkpoint()
        return [self.found(container) for container in self.containers.values()]

    # What the model is made of: a mutant changes one of these.

    def known(self, handle: Handle) -> Modelled | None:
        """The container that a handle means. Raises EngineUnavailable, BackendError."""
        self.ask_engine()
        if handle.schema != SCHEMA:
            raise BackendError(
                f"the handle of {handle.id} has schema {handle.schema}, not {SCHEMA}"
            )
        return self.containers.get(handle.id)

    def running(self, handle: Handle) -> Modelled:
        """The container that a handle means, which must run. Raises likewise."""
        container = self.known(handle)
        if container is not None:
            self._settle(container)
        if container is None or container.record.phase is not Phase.RUNNING:
            raise BackendError(f"container {handle.id} does not run")
        return container

    def attachment(self, container: Modelled) -> Attachment:
        return Attachment(image_applied=False)

    def found(self, container: Modelled) -> Found:
        self._settle(container)
        running = container.record.phase is Phase.RUNNING
        return Found(
            id=container.record.spec.id,
            handle=Handle(id=container.record.spec.id, schema=SCHEMA),
            phase=container.record.phase,
            attachment=self.attachment(container) if running else None,
            exit=container.record.exit if container.record.phase is Phase.EXITED else None,
        )

    def end(self, container: Modelled, exit_: Exit) -> None:
        """It ends so, unless it has ended otherwise."""
        if container.record.phase is not Phase.EXITED:
            container.record.phase, container.record.exit = Phase.EXITED, exit_
        container.ended.set()
        container.stir()

    async def change(self, container: Modelled) -> None:
        """Return when something may have happened to it."""
        self._settle(container)
        if container.ended.is_set():
            return
        if container.record.wakes_at is None:
            await container.stirred.wait()
        else:
            await self._stirred_or_time(container)
        self._settle(container)

    def pause(self, container: Modelled) -> None:
        record = container.record
        if not record.paused:
            asleep = record.wakes_at
            record.remaining = None if asleep is None else asleep - self.clock.now()
            record.paused, record.wakes_at = True, None
            self._save()

    def resume(self, container: Modelled) -> None:
        record = container.record
        if record.paused:
            left = record.remaining
            record.wakes_at = None if left is None else left + self.clock.now()
            record.paused, record.remaining = False, None
            container.stir()
            self._save()

    def _save(self) -> None:
        if self._file is not None:
            records = tuple(each.record for each in self.containers.values())
            try:
                save_world(self._file, World(now=self.clock.now(), records=records))
            except OSError as exc:
                what = f"cannot write {self._file}: {exc.strerror}"
                raise BackendError(what, retryable=True) from exc

    def ask_engine(self) -> None:
        away = self._config.engine_away_file
        if away is not None and away.exists():
            raise EngineUnavailable(f"the engine is away for as long as {away} is there")

    async def _stirred_or_time(self, container: Modelled) -> None:
        stirred = container.stirred
        async with anyio.create_task_group() as tasks:

            async def time() -> None:
                await self.clock.sleep((container.record.wakes_at or 0.0) - self.clock.now())
                tasks.cancel_scope.cancel()

            tasks.start_soon(time)
            await stirred.wait()
            tasks.cancel_scope.cancel()

    def _settle(self, container: Modelled) -> None:
        """Let it do what it would have done by now."""
        record = container.record
        awake = record.wakes_at is not None and record.wakes_at <= self.clock.now()
        if awake and record.phase is Phase.RUNNING:
            record.wakes_at = None
            self._play(container, record.then)

    def _play(self, container: Modelled, words: list[str]) -> None:
        for index, word in enumerate(words):
            command, _, argument = word.removeprefix("exec ").partition(" ")
            if check := _CHECK.fullmatch(word):
                if container.record.spec.env.get(check[1], "") != check[2]:
                    self.end(container, Exit(code=int(check[3])))
                    return
            elif trap := _TRAP.fullmatch(word):
                container.record.traps[trap[2]] = trap[1]
            elif command == "echo":
                text = argument.removesuffix(" >&2")
                stream = Stream.STDOUT if text == argument else Stream.STDERR
                container.record.output.append((stream, f"{text}\n"))
                container.stir()
            elif command == "exit":
                self.end(container, Exit(code=int(argument)))
                return
            elif command == "kill":
                name = argument.split()[0].removeprefix("-")
                self.end(container, Exit(signal=Signals[f"SIG{name}"]))
                return
            elif command == "sleep":
                container.record.wakes_at = self.clock.now() + float(argument.split()[0])
                container.record.then = words[index + 1 :]
                return
        self.end(container, Exit(code=0))


def _words(script: str) -> list[str]:
    """The commands of a script; a trap's own are one of them."""
    parts = re.split(r";\s*(?=(?:[^']*'[^']*')*[^']*$)", script)
    return [part.strip().removesuffix("& wait").strip() for part in parts if part.strip()]
