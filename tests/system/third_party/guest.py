"""A third party's guest: the entrypoint is PID 1, and what it is told is written down."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from longshore_core import ContainerSpec, Facts, Host, Launch, Plug, Reach, hookimpl
from longshore_core.abc import Guest, Session
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    pass


class NotedSession(Session):
    def __init__(self, notes: Path) -> None:
        self.notes = notes

    async def health(self) -> None: ...

    async def go(self, launch: Launch) -> None:
        self.notes.write_text(",".join(f"{k}={v}" for k, v in launch.env.items()))

    async def stop(self) -> None:
        self.notes.with_name("stopped").touch()

    async def aclose(self) -> None: ...


class NotedGuest(Guest):
    def __init__(self, host: Host) -> None:
        self.host = host

    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        return spec

    async def connect(self, reach: Reach) -> Session:
        return NotedSession(self.host.state_dir / "gone")


@asynccontextmanager
async def open_noted(config: Config, host: Host) -> AsyncGenerator[Guest]:
    yield NotedGuest(host)


@hookimpl
def longshore_guest() -> Plug[Config, Guest]:
    return Plug(config=Config, open=open_noted)
