"""The `static` registry: an address, a repository, and at most one name and password."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from longshore_core import Host, Plug, hookimpl
from longshore_core.abc import Credentials, Registry


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str
    repository: str
    username: str | None = None
    password: SecretStr | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; give both or neither")
        return self


class StaticRegistry(Registry):
    def __init__(self, config: Config) -> None:
        self._config = config
        address = config.url.removeprefix("https://").removeprefix("http://").rstrip("/")
        self._base = f"{address}/{config.repository.strip('/')}"

    def reference(self, sandbox: str, snapshot: str) -> str:
        return f"{self._base}:sb-{sandbox}-snap-{snapshot}"

    def owns(self, reference: str) -> bool:
        return reference.startswith((f"{self._base}:", f"{self._base}@"))

    async def credentials(self) -> Credentials | None:
        if self._config.username is None or self._config.password is None:
            return None
        return Credentials(
            username=self._config.username, password=self._config.password.get_secret_value()
        )


@asynccontextmanager
async def open_static(config: Config, _host: Host) -> AsyncGenerator[Registry]:
    """Nothing is connected to before it is needed."""
    yield StaticRegistry(config)


@hookimpl
def longshore_registry() -> Plug[Config, Registry]:
    return Plug(config=Config, open=open_static)
