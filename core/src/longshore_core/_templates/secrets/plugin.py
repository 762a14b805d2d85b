"""The secrets `acme`: a directory for each namespace, a file for each secret."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from longshore_core import BackendError, Host, Plug, hookimpl
from longshore_core.abc import SecretsProvider
from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What operators may write beside `type: acme`."""

    model_config = ConfigDict(extra="forbid")

    directory: Path | None = None
    """Where the namespaces are; absent: in the worker's state directory."""


class AcmeSecrets(SecretsProvider):
    def __init__(self, place: Path) -> None:
        self.place = place

    async def fetch(self, namespace: str, names: Sequence[str]) -> Mapping[str, str]:
        # All of them, or an error that names the one that is not there.
        return {name: await self._read(namespace, name) for name in names}

    async def _read(self, namespace: str, name: str) -> str:
        if any(not part or part.startswith(".") or "/" in part for part in (namespace, name)):
            raise BackendError(f"{namespace}/{name} cannot name a secret")
        try:
            text = await anyio.Path(self.place, namespace, name).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            raise BackendError(f"namespace {namespace} has no secret {name}") from exc
        return text.rstrip("\n")


@asynccontextmanager
async def open_acme(config: Config, host: Host) -> AsyncGenerator[SecretsProvider]:
    yield AcmeSecrets(config.directory or host.state_dir)


@hookimpl
def longshore_secrets() -> Plug[Config, SecretsProvider]:
    return Plug(config=Config, open=open_acme)
