"""The network `acme`: puts policies on record, a file for each container."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from longshore_core import (
    Attachment,
    ContainerId,
    Host,
    NetworkPolicy,
    NetworkPolicyError,
    Plug,
    hookimpl,
)
from longshore_core.abc import NetworkEnforcer
from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What operators may write beside `type: acme`."""

    model_config = ConfigDict(extra="forbid")

    directory: Path | None = None
    """Where the records go; absent: into the worker's state directory."""


class AcmeNetwork(NetworkEnforcer):
    def __init__(self, place: Path) -> None:
        self.place = place

    async def admit(
        self, container: ContainerId, attachment: Attachment, policy: NetworkPolicy
    ) -> None:
        for entry in (*policy.allow_out, *policy.deny_out):
            try:
                ipaddress.ip_network(entry, strict=False)
            except ValueError as exc:
                raise NetworkPolicyError(f"{container}: {entry!r} is no address") from exc
        record = {"container": container, "interface": attachment.interface, **asdict(policy)}
        self._write(self._file(container), json.dumps(record))

    async def revoke(self, container: ContainerId) -> None:
        self._file(container).unlink(missing_ok=True)

    def _file(self, container: ContainerId) -> Path:
        # Ids are not file names.
        return self.place / f"{hashlib.sha256(container.encode()).hexdigest()[:16]}.json"

    def _write(self, file: Path, text: str) -> None:
        """Whole or not at all: who reads meanwhile has the old policy, or the new one."""
        draft = file.with_suffix(".new")
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(file)
        except OSError as exc:
            raise NetworkPolicyError(f"cannot write {file}: {exc.strerror}") from exc


@asynccontextmanager
async def open_acme(config: Config, host: Host) -> AsyncGenerator[NetworkEnforcer]:
    # What was put in force before a restart stays in force until it is revoked.
    yield AcmeNetwork(config.directory or host.state_dir)


@hookimpl
def longshore_network() -> Plug[Config, NetworkEnforcer]:
    return Plug(config=Config, open=open_acme)
