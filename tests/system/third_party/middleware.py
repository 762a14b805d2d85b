"""A third party's middleware: signs every answer that passes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from longshore_core import Host, Plug, hookimpl
from longshore_core.abc import Flow, Layer, RequestHead
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    word: str = "acme"


@asynccontextmanager
async def open_signing(config: Config, host: Host) -> AsyncGenerator[Layer]:
    def flow(request: RequestHead) -> Flow:
        response = yield request
        return response.with_((b"X-Signed-By", config.word.encode()))

    yield Layer(flow=flow)


@hookimpl
def longshore_middleware() -> Plug[Config, Layer]:
    return Plug(config=Config, open=open_signing)
