"""The middleware `acme`: wants a key of each request, and signs each answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from longshore_core import Host, Plug, hookimpl
from longshore_core.abc import Flow, Layer, RequestHead, ResponseHead
from pydantic import BaseModel, ConfigDict, SecretStr


class Config(BaseModel):
    """What operators may write beside `type: acme`."""

    model_config = ConfigDict(extra="forbid")

    key: SecretStr | None = None
    """What requests must bring in the header `X-Acme-Key`; absent: nothing."""


class Acme:
    def __init__(self, config: Config) -> None:
        self.key = config.key.get_secret_value().encode() if config.key else None

    def flow(self, request: RequestHead) -> Flow:
        """Called for each request, with its head; bodies stream past."""
        if self.key is not None and request.get(b"x-acme-key") != self.key:
            # An answer that is given without asking further in.
            return ResponseHead.of(401, (b"Content-Length", b"0"))
        response = yield request.without(b"x-acme-key")
        return response.with_((b"X-Acme", b"passed"))


@asynccontextmanager
async def open_acme(config: Config, host: Host) -> AsyncGenerator[Layer]:
    yield Layer(flow=Acme(config).flow, name="acme")


@hookimpl
def longshore_middleware() -> Plug[Config, Layer]:
    return Plug(config=Config, open=open_acme)
