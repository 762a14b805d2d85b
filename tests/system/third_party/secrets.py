"""A third party's provider of secrets: each secret is its own name, reversed."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from longshore_core import Host, Plug, hookimpl
from longshore_core.abc import SecretsProvider
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    pass


class ReversedSecrets(SecretsProvider):
    async def fetch(self, namespace: str, names: Sequence[str]) -> Mapping[str, str]:
        return {name: name[::-1] for name in names}


@asynccontextmanager
async def open_reversed(config: Config, host: Host) -> AsyncGenerator[SecretsProvider]:
    yield ReversedSecrets()


@hookimpl
def longshore_secrets() -> Plug[Config, SecretsProvider]:
    return Plug(config=Config, open=open_reversed)
