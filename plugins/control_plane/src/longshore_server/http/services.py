"""What the routes share: the plane, the settings, and how a path names a tenant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Path, Query, Request
from longshore_core import RequestError

from longshore_server.model import SandboxRecord
from longshore_server.plane import ControlPlane
from longshore_server.settings import ServerSettings
from longshore_server.store.reader import PAGE

DEFAULT_NAMESPACE: Final = "default"
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    plane: ControlPlane
    settings: ServerSettings

    def proxy_address(self, record: SandboxRecord) -> str | None:
        """Where the proxy of a sandbox's executor is."""
        slot = self.plane.index.slots.get(record.executor_id or "")
        return slot.record.proxy_address if slot else None


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose sandboxes a path speaks of. Without an application: all of the namespace."""

    namespace: str
    application: str | None


def check_namespace(name: str) -> str:
    """The name, when a namespace can have it. Raises RequestError NAMESPACE_INVALID."""
    if not _NAMESPACE.fullmatch(name):
        raise RequestError(
            400,
            "NAMESPACE_INVALID",
            f"{name!r} cannot be a namespace: up to 128 of A-Z a-z 0-9 . _ -, a letter or digit"
            " first",
        )
    return name


# Dependencies are coroutines: FastAPI sends plain functions through a thread.


async def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def tenant_of(request: Request) -> Tenant:
    namespace = request.path_params.get("namespace", DEFAULT_NAMESPACE)
    return Tenant(check_namespace(namespace), request.path_params.get("application"))


async def in_namespace(namespace: Annotated[str, Path()]) -> None:
    """Declares the parameter for the documentation; `tenant_of` reads it."""


async def in_application(application: Annotated[str, Path()]) -> None:
    """Like `in_namespace`."""


Api = Annotated[Services, Depends(services_of)]
Whose = Annotated[Tenant, Depends(tenant_of)]
Limit = Annotated[int, Query(ge=1, le=PAGE)]
