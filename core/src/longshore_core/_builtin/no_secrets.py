"""The `none` provider of secrets: there are none, and asking for one fails the start."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict

from longshore_core import BackendError, Host, Plug, hookimpl
from longshore_core.abc import SecretsProvider


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoSecrets(SecretsProvider):
    async def fetch(self, namespace: str, names: Sequence[str]) -> Mapping[str, str]:
        if names:
            raise BackendError(
                f"namespace {namespace!r} asks for secrets ({', '.join(names)}), and this worker"
                " has no provider of them; choose one with `secrets.type`"
            )
        return {}


@asynccontextmanager
async def open_none(_config: Config, _host: Host) -> AsyncGenerator[SecretsProvider]:
    """Nothing to open, and nothing to close."""
    yield NoSecrets()


@hookimpl
def longshore_secrets() -> Plug[Config, SecretsProvider]:
    return Plug(config=Config, open=open_none)
