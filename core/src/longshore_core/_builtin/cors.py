"""CORS at the proxy, for browsers that talk to sandboxes from elsewhere.

Off unless the config lists it: an application in a sandbox may do its own. For an origin that is
allowed, this layer answers preflights and says on every response what the config says, in place of
what the sandbox said; for any other origin it is not there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Final, Self, TypeAlias

from pydantic import BaseModel, Field, StringConstraints, model_validator

from longshore_core.abc import Flow, Host, Layer, Plug, RequestHead, ResponseHead
from longshore_core.hookspecs import hookimpl

_ANY: Final = "*"
_CREDENTIALS: Final = b"Access-Control-Allow-Credentials"
_ADMITTED: Final = b"Longshore-Admitted-Origin"

Token: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$", strip_whitespace=True)
]
Origin: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[!-+.-~]+)$")
]


class Config(BaseModel, extra="forbid", frozen=True):
    """`http_proxy.middlewares: [{type: cors, …}]`"""

    allow_origins: tuple[Origin, ...] = Field(
        default=(_ANY,), description="as browsers send them: `https://app.example.com`"
    )
    allow_methods: tuple[Token, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    allow_headers: tuple[Token, ...] = (
        "Authorization",
        "Content-Type",
        "Tensorlake-Sandbox-Id",
        "Tensorlake-Sandbox-Port",
        "X-Tensorlake-Sandbox-Id",
        "X-Tensorlake-Sandbox-Port",
        "X-Request-Id",
    )
    expose_headers: tuple[Token, ...] = ()
    allow_credentials: bool = Field(
        default=False, description="cookies and the like; only with origins that are named"
    )
    max_age_secs: int = Field(default=86400, ge=0, description="how long a preflight holds")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.allow_credentials and _ANY in self.allow_origins:
            raise ValueError(
                "allow_credentials with the origin '*' would let every site act as the user; "
                "name the origins"
            )
        return self


class Cors:
    """What the config says, as headers."""

    def __init__(self, config: Config) -> None:
        self._any = _ANY in config.allow_origins
        self._origins = frozenset(origin.encode() for origin in config.allow_origins)
        self._exposed = ", ".join(config.expose_headers).encode()
        self._credentials = config.allow_credentials
        self._preflight = (
            (b"Access-Control-Allow-Methods", ", ".join(config.allow_methods).encode()),
            (b"Access-Control-Allow-Headers", ", ".join(config.allow_headers).encode()),
            (b"Access-Control-Max-Age", b"%d" % config.max_age_secs),
        )

    def flow(self, request: RequestHead) -> Flow:
        origin = request.get(b"origin")
        if origin is None or not (self._any or origin in self._origins):
            response = yield request
            return self._varied(response)
        if request.method == b"OPTIONS" and request.get(b"access-control-request-method"):
            return self._allowed(ResponseHead.of(204, *self._preflight), origin)
        # The daemon refuses pages that nobody has let in.
        response = yield request.with_((_ADMITTED, origin))
        if self._exposed:
            response = response.with_((b"Access-Control-Expose-Headers", self._exposed))
        return self._allowed(response, origin)

    def _allowed(self, response: ResponseHead, origin: bytes) -> ResponseHead:
        allowed = b"*" if self._any else origin
        response = response.with_((b"Access-Control-Allow-Origin", allowed))
        if self._credentials:
            response = response.with_((_CREDENTIALS, b"true"))
        else:
            response = response.without(_CREDENTIALS)
        return self._varied(response)

    def _varied(self, response: ResponseHead) -> ResponseHead:
        """Say to caches that the answer depends on the origin, when it does."""
        if self._any:
            return response
        varied = b", ".join(response.get_all(b"vary"))
        if b"*" in varied or b"origin" in varied.lower():
            return response
        return response.with_((b"Vary", varied + b", Origin" if varied else b"Origin"))


@asynccontextmanager
async def open_cors(config: Config, _host: Host) -> AsyncGenerator[Layer, None]:
    """The layer; it holds nothing."""
    yield Layer(flow=Cors(config).flow, name="cors")


@hookimpl
def longshore_middleware() -> Plug[Config, Layer]:
    return Plug(config=Config, open=open_cors)
