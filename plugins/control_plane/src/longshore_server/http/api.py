"""The HTTP application, put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp

from longshore_server.http import applications, errors, operators, page, sandboxes, unoffered
from longshore_server.http.gate import Gate
from longshore_server.http.services import Services, in_application, in_namespace


def build(services: Services) -> ASGIApp:
    """The whole API. Answers as long as the plane does."""
    app = FastAPI(
        title="Longshore server",
        version=version("longshore-server"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    errors.install(app)
    namespace = "/v1/namespaces/{namespace}"
    in_both = [Depends(in_namespace), Depends(in_application)]
    app.include_router(operators.router, tags=["operators"])
    app.include_router(
        sandboxes.router,
        prefix=f"{namespace}/sandboxes",
        dependencies=[Depends(in_namespace)],
        tags=["sandboxes"],
    )
    app.include_router(sandboxes.router, prefix="/sandboxes", tags=["sandboxes"])
    app.include_router(
        sandboxes.router,
        prefix=f"{namespace}/applications/{{application}}/sandboxes",
        dependencies=in_both,
        tags=["sandboxes"],
    )
    app.include_router(
        applications.router,
        prefix=f"{namespace}/applications",
        dependencies=[Depends(in_namespace)],
        tags=["applications"],
    )
    app.include_router(unoffered.routes(), prefix=namespace)
    app.include_router(unoffered.routes())
    app.include_router(unoffered.invocation(), prefix=f"{namespace}/applications")
    app.include_router(_documentation(app))
    return Gate(app)


def _documentation(app: FastAPI) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/docs", response_class=HTMLResponse)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.render(app.openapi()))

    @router.get("/docs/public/openapi.json")
    async def public_openapi() -> dict[str, Any]:
        return app.openapi()

    return router
