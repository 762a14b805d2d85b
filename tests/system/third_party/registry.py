"""A third party's registry: names snapshots, and needs no login."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from longshore_core import Host, Plug, hookimpl
from longshore_core.abc import Credentials, Registry
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    base: str


class PlainRegistry(Registry):
    def __init__(self, base: str) -> None:
        self.base = base

    def reference(self, sandbox: str, snapshot: str) -> str:
        return f"{self.base}/{sandbox}:{snapshot}"

    def owns(self, reference: str) -> bool:
        return reference.startswith(f"{self.base}/")

    async def credentials(self) -> Credentials | None:
        return None


@asynccontextmanager
async def open_plain(config: Config, host: Host) -> AsyncGenerator[Registry]:
    (host.state_dir / "opened").write_text(PlainRegistry(config.base).reference("s", "n"))
    yield PlainRegistry(config.base)


@hookimpl
def longshore_registry() -> Plug[Config, Registry]:
    return Plug(config=Config, open=open_plain)
