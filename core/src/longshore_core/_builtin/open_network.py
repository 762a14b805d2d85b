"""The `open` network: enforces nothing, and so refuses whoever asks for enforcement."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict

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


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OpenNetwork(NetworkEnforcer):
    async def admit(
        self, container: ContainerId, attachment: Attachment, policy: NetworkPolicy
    ) -> None:
        if policy != NetworkPolicy():
            raise NetworkPolicyError(
                f"{container} asks for a network policy, and the network `open` enforces none;"
                " choose another `network.type`, or create it without a policy"
            )

    async def revoke(self, container: ContainerId) -> None:
        """Nothing was put in force."""


@asynccontextmanager
async def open_network(_config: Config, _host: Host) -> AsyncGenerator[NetworkEnforcer]:
    """Nothing to open, and nothing to close."""
    yield OpenNetwork()


@hookimpl
def longshore_network() -> Plug[Config, NetworkEnforcer]:
    return Plug(config=Config, open=open_network)
