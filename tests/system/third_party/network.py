"""A third party's network: writes down what it is asked to enforce."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from longshore_core import Attachment, ContainerId, Host, NetworkPolicy, Plug, hookimpl
from longshore_core.abc import NetworkEnforcer
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    pass


class NotedNetwork(NetworkEnforcer):
    def __init__(self, host: Host) -> None:
        self.host = host

    async def admit(
        self, container: ContainerId, attachment: Attachment, policy: NetworkPolicy
    ) -> None:
        (self.host.state_dir / "admitted").write_text(",".join(policy.deny_out))

    async def revoke(self, container: ContainerId) -> None:
        (self.host.state_dir / "revoked").touch()


@asynccontextmanager
async def open_noted(config: Config, host: Host) -> AsyncGenerator[NetworkEnforcer]:
    yield NotedNetwork(host)


@hookimpl
def longshore_network() -> Plug[Config, NetworkEnforcer]:
    return Plug(config=Config, open=open_noted)
