"""The `bare` guest: no guest at all. The entrypoint itself is PID 1, and runs at once.

For drivers and tests that need nothing inside. Secrets cannot be handed over, so a container that
asks for some is refused.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NoReturn

from pydantic import BaseModel, ConfigDict

from longshore_core import (
    ContainerSpec,
    Facts,
    Host,
    Plug,
    Reach,
    UnsupportedCapability,
    hookimpl,
)
from longshore_core.abc import Guest


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BareGuest(Guest):
    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        return spec

    async def connect(self, reach: Reach) -> NoReturn:
        raise UnsupportedCapability("the bare guest cannot be connected to")


@asynccontextmanager
async def open_bare(_config: Config, _host: Host) -> AsyncGenerator[Guest]:
    """Nothing to open, and nothing to close."""
    yield BareGuest()


@hookimpl
def longshore_guest() -> Plug[Config, Guest]:
    return Plug(config=Config, open=open_bare)
