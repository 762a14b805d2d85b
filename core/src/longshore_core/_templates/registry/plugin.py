"""The registry `acme`: a tag for each snapshot, and a token from a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from longshore_core import Host, Plug, RegistryError, hookimpl
from longshore_core.abc import Credentials, Registry
from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What operators may write beside `type: acme`."""

    model_config = ConfigDict(extra="forbid")

    repository: str = "registry.example/snapshots"
    username: str = "longshore"
    login_file: Path | None = None
    """Holds the token, and may change at any time; absent: the registry is anonymous."""


class AcmeRegistry(Registry):
    def __init__(self, config: Config) -> None:
        self.config = config

    def reference(self, sandbox: str, snapshot: str) -> str:
        return f"{self.config.repository}:{sandbox}-{snapshot}"

    def owns(self, reference: str) -> bool:
        return reference.startswith((f"{self.config.repository}:", f"{self.config.repository}@"))

    async def credentials(self) -> Credentials | None:
        if self.config.login_file is None:
            return None
        try:
            token = await anyio.Path(self.config.login_file).read_text(encoding="utf-8")
        except OSError as exc:
            raise RegistryError(f"cannot read {self.config.login_file}: {exc.strerror}") from exc
        return Credentials(username=self.config.username, password=token.strip())


@asynccontextmanager
async def open_acme(config: Config, host: Host) -> AsyncGenerator[Registry]:
    yield AcmeRegistry(config)


@hookimpl
def longshore_registry() -> Plug[Config, Registry]:
    return Plug(config=Config, open=open_acme)
