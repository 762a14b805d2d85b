"""The `reference` driver: a model in memory that keeps every law it declares, in time of its own.

It runs nothing. Beside containers it has every ability but that of programs beside PID 1.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from longshore_core._model import Facts
from longshore_core.abc import Host, Plug, Runtime
from longshore_core.hookspecs import hookimpl
from longshore_core.testing.clock import VirtualClock
from longshore_core.testing.reference_abilities import (
    ModelHealth,
    ModelImages,
    ModelLogs,
    ModelMeter,
    ModelPauser,
)
from longshore_core.testing.reference_driver import Config as Config
from longshore_core.testing.reference_driver import Modelled as Modelled
from longshore_core.testing.reference_driver import ReferenceDriver as ReferenceDriver
from longshore_core.testing.reference_world import world_file


@dataclass(eq=False, slots=True, kw_only=True)
class ReferenceRuntime(Runtime):
    """A runtime whose time is moved by whoever tests it."""

    clock: VirtualClock


FACTS: Final = Facts(
    recovers=True, sockets=False, images=False, mounts=False, pause_with_memory=True
)


def runtime_of(driver: ReferenceDriver, facts: Facts = FACTS) -> ReferenceRuntime:
    """The driver with its abilities: all but programs beside PID 1."""
    images = ModelImages()
    return ReferenceRuntime(
        driver=driver,
        facts=facts,
        clock=driver.clock,
        images=images,
        health=ModelHealth(driver, images),
        pause=ModelPauser(driver),
        usage=ModelMeter(driver),
        logs=ModelLogs(driver),
    )


@asynccontextmanager
async def open_reference(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    """The world as an earlier one has left it, or an empty one."""
    driver = ReferenceDriver(config, world_file(host.state_dir, host.owner))
    yield runtime_of(driver)


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    return Plug(config=Config, open=open_reference)
