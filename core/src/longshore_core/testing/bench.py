"""What a law gets to work with: an open driver, as the worker has it, and all that is beside it."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import anyio
from anyio import to_thread
from pydantic import TypeAdapter

from longshore_core._errors import LongshoreError, PluginLoadError, UnknownPlugin
from longshore_core._model import (
    Attachment,
    ContainerId,
    ContainerSpec,
    Facts,
    Found,
    Gap,
    Handle,
    Phase,
    Transition,
    UnixReach,
)
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.abc import Guest, Host, Runtime
from longshore_core.testing.clock import Clock, Clocked, RealClock
from longshore_core.testing.expect import Broken, expect, soon
from longshore_core.testing.host import VANISH_SECONDS, HostView, Seen, find_leaks
from longshore_core.testing.law import PROGRAMS, SOCKETS, Missing
from longshore_core.testing.programs import READY, argv
from longshore_core.testing.session import Sandbox, open_sandbox
from longshore_core.testing.subject import Subject, find_subject
from longshore_core.testing.trace import TracedDriver

ThingT = TypeVar("ThingT")
AnswerT = TypeVar("AnswerT")

HANDLE: Final = TypeAdapter(Handle)
TIDY_SECONDS: Final = 20.0
_TIDY_AT_ONCE: Final = 8
_MOMENTS: Final = 1.2
"""How much of a call is covered: the next may take longer."""
_READY_SECONDS: Final = 1.0
"""What a program may take to prepare itself that cannot say when it has."""
_FIRST_OWNER: Final = "worker-1/driver"


class Engine(Protocol):
    """A way to take a driver's engine away, and to bring it back."""

    async def stop(self) -> None: ...

    async def start(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What whoever runs the kit may say."""

    heavy: bool = False
    """Whether laws use their large numbers: the profile full."""
    image: str | None = None
    """For drivers with images: one that has /bin/sh."""
    guest: str = "sandbox_daemon"
    guest_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    engine: Engine | None = None
    golden: Path | None = None
    """A directory with handles that earlier releases of the driver have left, as JSON."""
    exclusive_host: bool = False
    cache: Path | None = None
    """Where guests may keep what takes long to make."""
    seed: int = 0
    patience: float = 1.0
    """How many times as long a law may take as where the processors are free. What a law promises
    within a time stays as it is."""


class SeamBench(Generic[ThingT]):
    """What a law of any kind of plugin gets: the plugin, opened as the kernel does."""

    def __init__(self, subject: Subject[ThingT], settings: Settings, view: HostView) -> None:
        self.subject = subject
        self.settings = settings
        self.view = view
        self.before: Seen | None = None
        """The host when the plugin had been opened, and the law had not begun."""
        self.root = view.root
        self.mark: Final = view.mark
        self.scratch = view.scratch
        """A directory for the law's own files."""
        self.random = random.Random(f"{settings.seed}")
        self.measured: dict[str, float] = {}
        self.trace: list[str] = []
        self.stack = AsyncExitStack()
        """Left when the law is over, before the host is looked at."""

    @property
    def thing(self) -> ThingT:
        """What the plugin has opened."""
        return self._thing

    async def open(self) -> None:
        self._thing = await self.stack.enter_async_context(self.subject.open(self.host()))

    async def tidy(self) -> str | None:
        """End what the law has left open. What of it could not be taken away, in words."""
        await self.stack.aclose()
        return None

    def host(self, owner: str = _FIRST_OWNER, *, state: str = "state") -> Host:
        """What a plugin is lent. An owner of another name is another worker."""
        state_dir = self.root / state
        state_dir.mkdir(parents=True, exist_ok=True)
        owner = f"{self.mark}/{owner}"
        self.view.add_owner(owner)
        return bare_host(self.subject.origin.name, owner, state_dir)

    def need(self, condition: object, what: str) -> None:
        """Give up, without a verdict on the plugin, where this machine lacks something."""
        if not condition:
            raise Missing(what)

    def many(self, core: int, full: int) -> int:
        """How often: the profile decides."""
        return full if self.settings.heavy else core

    async def left_since(self, before: Seen, kind: str | None = None) -> tuple[str, ...]:
        """What is new on the host, and stays; of one kind only, if that is named."""
        left = await find_leaks(self.view, before, VANISH_SECONDS)
        return tuple(each for each in left if kind is None or each.startswith(f"{kind} "))

    def moments(self, count: int, seconds: float) -> list[float]:
        """When to break off a call that takes so long here: moments within it and shortly after,
        one in each equal part, in any order."""
        parts = [self.random.uniform(n, n + 1) / count for n in range(count)]
        self.random.shuffle(parts)
        return [part * _MOMENTS * seconds for part in parts]

    def record(self, name: str, value: float) -> None:
        """Keep a number for the report. Units in the name."""
        self.measured[name] = value


class Bench(SeamBench[Runtime]):
    """What a law of drivers gets."""

    driver: AdaptedDriver
    """Called as the worker calls it: errors are blamed, handles made to JSON and back."""
    clock: Clock

    @property
    def facts(self) -> Facts:
        return self.driver.facts

    @property
    def inside(self) -> str:
        """A directory for files of the law that programs in a sandbox can reach."""
        return f"/tmp/{self.mark}-inside" if self.facts.images else str(self.scratch)

    @property
    def has_programs(self) -> bool:
        return PROGRAMS.declared(self.thing)

    @property
    def has_sockets(self) -> bool:
        return SOCKETS.declared(self.thing)

    async def open(self) -> None:
        await self._open(_FIRST_OWNER)

    async def reopen(self) -> None:
        """Close the driver and open it again, as a worker does that restarts."""
        async with self.closed():
            pass

    @asynccontextmanager
    async def closed(self) -> AsyncGenerator[None]:
        """The driver is closed, for a worker of the same owner to be there instead; then open."""
        await self.stack.aclose()
        self.stack = AsyncExitStack()
        try:
            yield
        finally:
            self.trace.append("reopen")
            await self._open(_FIRST_OWNER)

    @asynccontextmanager
    async def another(self, owner: str, *, state: str) -> AsyncGenerator[AdaptedDriver]:
        """The driver of another worker, beside this one."""
        async with self._opened(self.host(owner, state=state)) as runtime:
            yield self._adapted(runtime)

    async def tidy(self) -> str | None:
        """Remove what the law has left, and close the driver."""
        left: str | None = "what it had made could not be removed in time"
        try:
            # The law may have been cut short; what it has started must end all the same.
            seconds = TIDY_SECONDS * self.settings.patience
            with anyio.move_on_after(seconds, shield=True):
                await self._recognise()
                left = await self._remove_all()
        finally:
            # Not in a scope of ours: what was opened before it has scopes of its own.
            await self.stack.aclose()
        return left

    # Containers.

    def id(self, name: str) -> ContainerId:
        return ContainerId(f"{self.mark}-{name}")

    def spec(self, name: str, script: str, **rest: Any) -> ContainerSpec:
        """A container that runs a script of the words in `programs`."""
        sockets = rest.pop("sockets", self.has_sockets)
        env = {"LONGSHORE_LAW": self.mark, **rest.pop("env", {})}
        return ContainerSpec(
            id=self.id(name),
            image=self.settings.image if self.facts.images else None,
            argv=argv(script, sockets=sockets),
            env=env,
            sockets=sockets,
            **rest,
        )

    async def running(self, name: str, script: str, **rest: Any) -> Handle:
        """Create and start a container; it has prepared what it does when this returns."""
        handle = await self.driver.create(self.spec(name, script, **rest))
        attachment = await self.driver.start(handle)
        await self._recognise(attachment.interface)
        if "{ready}" in script:
            await self.told(attachment, READY)
            if attachment.reach is None:
                # It has no way to say so.
                await self.clock.pass_time(_READY_SECONDS)
        return handle

    async def told(self, attachment: Attachment, name: str) -> None:
        """Wait for a file in the container's directory for sockets, where it has one."""
        if isinstance(attachment.reach, UnixReach):
            await soon(Path(attachment.reach.path, name).exists, f"PID 1 says {name}")

    async def found(self, name: str) -> Found | None:
        """What the survey has of a container."""
        there = [each for each in await self.driver.survey() if each.id == self.id(name)]
        expect(len(there) <= 1, f"the survey has {len(there)} containers {self.id(name)}")
        return there[0] if there else None

    async def phase(self, name: str) -> Phase | None:
        found = await self.found(name)
        return found.phase if found else None

    def stored(self, handle: Handle) -> Handle:
        """The handle as a restarted worker has it: from JSON text."""
        return HANDLE.validate_python(json.loads(HANDLE.dump_json(handle)))

    # Inside.

    async def guest(self) -> Guest:
        """The guest of the settings, open until the law is over."""
        options = dict(self.settings.guest_options)
        if self.settings.cache is not None and self.settings.guest == "sandbox_daemon":
            options.setdefault("runtime_dir", str(self.settings.cache / "runtimes"))
        try:
            subject = find_subject(self.settings.guest, options, kind="guest")
        except (UnknownPlugin, PluginLoadError) as exc:
            raise Missing(f"the guest {self.settings.guest}: {exc}") from exc
        return await self.stack.enter_async_context(subject.open(self.host(state="guest")))

    async def sandbox(self, name: str = "c", **rest: Any) -> Sandbox:
        """A container in which the guest runs, released: programs can be run and files moved."""
        sandbox = await open_sandbox(
            self.driver, await self.guest(), self.spec(name, "exit 99", sockets=False, **rest)
        )
        sandbox.trace = self.trace.append
        await self._recognise()
        return sandbox

    async def _recognise(self, interface: str | None = None) -> None:
        """Learn what on the host is the law's now; in a world that is not real, nothing is."""
        if not isinstance(self._thing, Clocked):
            await to_thread.run_sync(self.view.recognise, interface)

    async def _remove_all(self) -> str | None:
        # Beside the trace: what is tidied away is no part of the law.
        driver = AdaptedDriver(self.thing, self.subject.origin)
        limit = anyio.CapacityLimiter(_TIDY_AT_ONCE)

        async def remove(handle: Handle) -> None:
            async with limit:
                await driver.remove(handle)

        async with anyio.create_task_group() as tasks:
            for found in await driver.survey():
                tasks.start_soon(remove, found.handle)
        left = ", ".join(sorted(found.id for found in await driver.survey()))
        return f"it was asked to remove {left}, and its survey has that still" if left else None

    async def _open(self, owner: str) -> None:
        runtime = await self.stack.enter_async_context(self._opened(self.host(owner)))
        self._thing = runtime
        self.clock = runtime.clock if isinstance(runtime, Clocked) else RealClock()
        self.driver = self._adapted(runtime)

    def _adapted(self, runtime: Runtime) -> AdaptedDriver:
        driver = TracedDriver(runtime.driver, self.mark, self.trace.append)
        return AdaptedDriver(replace(runtime, driver=driver), self.subject.origin)

    @asynccontextmanager
    async def _opened(self, host: Host) -> AsyncGenerator[Runtime]:
        async with self.subject.open(host) as runtime:
            yield _checked(runtime)


def _checked(opened: object) -> Runtime:
    if not isinstance(opened, Runtime):
        raise Broken(f"open yields a {type(opened).__name__}, not a Runtime")
    return opened


async def timed(call: Awaitable[AnswerT]) -> tuple[AnswerT, float]:
    """What a call answers, and how many seconds of this host's time it takes, in whatever clock its
    driver lives."""
    began = time.perf_counter()
    answer = await call
    return answer, time.perf_counter() - began


async def every(calls: list[Callable[[], Any]]) -> list[Any]:
    """The answers of calls made at once; an error that is ours is an answer, too."""
    answers: list[Any] = [None] * len(calls)

    async def ask(index: int, call: Callable[[], Any]) -> None:
        try:
            answers[index] = await call()
        except LongshoreError as exc:
            answers[index] = exc

    async with anyio.create_task_group() as tasks:
        for index, call in enumerate(calls):
            tasks.start_soon(ask, index, call)
    return answers


def bare_host(name: str, owner: str, state_dir: Path) -> Host:
    """What a plugin is lent, without a kernel: no transition ever comes."""
    return Host(
        name=name,
        owner=owner,
        state_dir=state_dir,
        logger=logging.getLogger("longshore.conformance"),
        transitions=_no_transitions,
    )


@asynccontextmanager
async def _no_transitions() -> AsyncGenerator[AsyncIterator[Transition | Gap]]:
    async def none() -> AsyncIterator[Transition | Gap]:
        return
        yield

    yield none()
