"""Where mutants are planted, and what they are changes of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from signal import Signals
from typing import Any, ClassVar, TypeVar

import longshore_forkexec
from longshore_core import (
    Attachment,
    ContainerSpec,
    Exit,
    Facts,
    Found,
    Handle,
    Host,
    Plug,
)
from longshore_core.abc import AnyPlug, Driver, Runtime
from longshore_core.testing.reference import (
    FACTS,
    Config,
    ReferenceDriver,
    runtime_of,
)
from longshore_core.testing.reference_abilities import (
    ModelHealth,
    ModelImages,
    ModelMeter,
    ModelPauser,
)
from longshore_core.testing.reference_world import world_file

from tests.conformance.executing import HostExecutor


@dataclass(frozen=True, kw_only=True)
class Mutant:
    law: str
    """The id of the law that must catch it."""
    why: str
    """What the law must say of it: a regular expression."""
    plug: AnyPlug
    kind: str = "driver"
    clean: Callable[[], None] = lambda: None
    """Take away what it has left, after the verdict."""
    needs: tuple[str, ...] = ()
    """Programs that only root can use as it does."""


MUTANTS: dict[str, Mutant] = {}


class Broken(ReferenceDriver):
    """Works as the reference does, but for what a mutant changes."""

    host: Host
    runtime_changes: ClassVar[dict[str, Any]] = {}

    async def close(self) -> None:
        """What a mutant may have to clean up after the verdict."""


BrokenT = TypeVar("BrokenT", bound=Broken)


def model(law: str, why: str, *, facts: Facts = FACTS) -> Callable[[type[BrokenT]], type[BrokenT]]:
    """Plant a class that takes the reference driver's place."""

    def plant(cls: type[BrokenT]) -> type[BrokenT]:
        @asynccontextmanager
        async def open_(config: Config, host: Host) -> AsyncGenerator[Runtime]:
            driver = cls(config, world_file(host.state_dir, host.owner))
            driver.host = host
            yield replace(runtime_of(driver, facts), **cls.runtime_changes)
            await driver.close()

        MUTANTS[cls.__name__] = Mutant(law=law, why=why, plug=Plug(config=Config, open=open_))
        return cls

    return plant


def ability(law: str, why: str) -> Callable[[type[Any]], type[Any]]:
    """Plant a class that takes the place of one of the reference's abilities."""

    def plant(cls: type[Any]) -> type[Any]:
        @asynccontextmanager
        async def open_(config: Config, host: Host) -> AsyncGenerator[Runtime]:
            driver = ReferenceDriver(config, world_file(host.state_dir, host.owner))
            yield replaced(runtime_of(driver), driver, cls)

        MUTANTS[cls.__name__] = Mutant(law=law, why=why, plug=Plug(config=Config, open=open_))
        return cls

    return plant


def replaced(runtime: Runtime, driver: ReferenceDriver, cls: type[Any]) -> Runtime:
    if issubclass(cls, ModelImages):
        images = cls()
        return replace(runtime, images=images, health=ModelHealth(driver, images))
    if issubclass(cls, ModelHealth):
        return replace(runtime, health=cls(driver, ModelImages()))
    if issubclass(cls, ModelPauser):
        return replace(runtime, pause=cls(driver))
    if issubclass(cls, ModelMeter):
        return replace(runtime, usage=cls(driver))
    return replace(runtime, logs=cls(driver))


class Wrapped(Driver):
    """`fork_exec`, passed through."""

    def __init__(self, inner: Driver, host: Host) -> None:
        self.inner = inner
        self.host = host

    async def create(self, spec: ContainerSpec) -> Handle:
        return await self.inner.create(spec)

    async def start(self, handle: Handle) -> Attachment:
        return await self.inner.start(handle)

    async def wait(self, handle: Handle) -> Exit:
        return await self.inner.wait(handle)

    async def signal(self, handle: Handle, signal: Signals) -> None:
        await self.inner.signal(handle, signal)

    async def remove(self, handle: Handle) -> None:
        await self.inner.remove(handle)

    async def survey(self) -> Sequence[Found]:
        return await self.inner.survey()

    @classmethod
    def clean(cls) -> None:
        """Take away what it has left, after the verdict."""


def over_fork_exec(
    law: str, why: str, *, needs: tuple[str, ...] = (), **facts: Any
) -> Callable[[type[Wrapped]], type[Wrapped]]:
    def plant(cls: type[Wrapped]) -> type[Wrapped]:
        @asynccontextmanager
        async def open_(config: Any, host: Host) -> AsyncGenerator[Runtime]:
            quiet = config.model_copy(update={"cgroup": "off"})
            async with longshore_forkexec.open_fork_exec(quiet, host) as runtime:
                declared = replace(runtime.facts, **facts)
                yield Runtime(driver=cls(runtime.driver, host), facts=declared)

        plug = Plug(config=longshore_forkexec.Config, open=open_)
        MUTANTS[cls.__name__] = Mutant(law=law, why=why, plug=plug, clean=cls.clean, needs=needs)
        return cls

    return plant


def beside(law: str, why: str) -> Callable[[type[HostExecutor]], type[HostExecutor]]:
    """Plant a class that runs programs beside PID 1 of `fork_exec`'s containers."""

    def plant(cls: type[HostExecutor]) -> type[HostExecutor]:
        @asynccontextmanager
        async def open_(config: Any, host: Host) -> AsyncGenerator[Runtime]:
            quiet = config.model_copy(update={"cgroup": "off"})
            async with longshore_forkexec.open_fork_exec(quiet, host) as runtime:
                yield replace(runtime, exec=cls(runtime.driver))

        plug = Plug(config=longshore_forkexec.Config, open=open_)
        MUTANTS[cls.__name__] = Mutant(law=law, why=why, plug=plug)
        return cls

    return plant
