"""Routes of applications."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from longshore_core import JSON, RequestError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from longshore_server.changes import ApplicationRecord
from longshore_server.http import blobs
from longshore_server.http.errors import unsupported_media_type
from longshore_server.http.gate import DEPLOY_BYTES
from longshore_server.http.services import Api, Limit, Services, Whose
from longshore_server.store.reader import PAGE, Page

router: Final = APIRouter()
_PARTS: Final[Mapping[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["application"],
                    "properties": {
                        "application": {"type": "string", "description": "the manifest, JSON"},
                        "code": {"type": "string", "format": "binary", "description": "a zip"},
                        "code_content_type": {"type": "string", "enum": ["application/zip"]},
                        "upgrade_requests_to_latest_code": {"type": "string"},
                    },
                }
            }
        },
    }
}


class Entrypoint(BaseModel):
    model_config = ConfigDict(extra="ignore")

    function_name: str = Field(min_length=1)


class Manifest(BaseModel):
    """What the server reads of a manifest. The rest is kept for others."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^/\x00-\x20\x7f]+$")
    functions: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    entrypoint: Entrypoint | None = None


@router.post(
    "", summary="Deploy an application", openapi_extra=dict(_PARTS), response_class=Response
)
async def deploy(request: Request, api: Api, whose: Whose) -> Response:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise unsupported_media_type("multipart/form-data", request)
    async with request.form(max_files=8, max_fields=16, max_part_size=DEPLOY_BYTES) as form:
        document = await _document(form)
        manifest = _manifest(document)
        code = _code(form, manifest)
        before = await api.plane.reader.application(whose.namespace, manifest.name)
        blob = None
        if code is not None:
            directory = api.settings.blob_storage.directory
            blob = await blobs.put(directory, whose.namespace, code.file)
    record = ApplicationRecord(
        namespace=whose.namespace,
        name=manifest.name,
        created_at_ms=time.time_ns() // 1_000_000,
        manifest={**document, "namespace": whose.namespace},
        code=blob,
    )
    try:
        await api.plane.put_application(record)
    except RequestError:
        await blobs.drop(blob)
        raise
    await blobs.drop(before.code if before else None)
    return Response()


@router.get("", summary="List applications")
async def list_applications(
    api: Api,
    whose: Whose,
    limit: Limit = PAGE,
    cursor: str | None = None,
    direction: Literal["forward", "backward"] = "forward",
) -> dict[str, Any]:
    page = Page(limit=limit, cursor=cursor, backward=direction == "backward")
    found, following = await api.plane.reader.applications(whose.namespace, page)
    return {"applications": [_shown(one) for one in found], "cursor": following}


@router.get("/{application}", summary="Look at an application")
async def get_application(api: Api, whose: Whose, application: str) -> dict[str, Any]:
    found = await api.plane.reader.application(whose.namespace, application)
    if found is None:
        raise RequestError(
            404,
            "APPLICATION_NOT_FOUND",
            f"no application {application!r} in namespace {whose.namespace}",
        )
    return _shown(found)


@router.delete(
    "/{application}",
    summary="Forget an application; a missing one is no error",
    response_class=Response,
)
async def delete_application(api: Api, whose: Whose, application: str) -> Response:
    await _forget(api, whose.namespace, application)
    return Response()


async def _forget(api: Services, namespace: str, name: str) -> None:
    before = await api.plane.reader.application(namespace, name)
    await api.plane.drop_application(namespace, name)
    await blobs.drop(before.code if before else None)


def _shown(record: ApplicationRecord) -> dict[str, Any]:
    return {**record.manifest, "created_at": record.created_at_ms, "state": "active"}


async def _document(form: FormData) -> dict[str, JSON]:
    part = form.get("application")
    if part is None:
        raise _unusable("application manifest is required")
    try:
        content = await part.read() if isinstance(part, UploadFile) else part
        document: JSON = json.loads(content, parse_constant=_no_number)
        # What cannot be written as UTF-8 could never be listed again.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise _unusable(f"the manifest is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise _unusable("the manifest is not a JSON object")
    return document


def _no_number(name: str) -> JSON:
    raise ValueError(f"{name} is not a number")


def _manifest(document: Mapping[str, JSON]) -> Manifest:
    try:
        return Manifest.model_validate(document)
    except ValidationError as exc:
        wrong = "; ".join(
            f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in exc.errors()
        )
        raise _unusable(f"the manifest cannot be used: {wrong}") from exc


def _code(form: FormData, manifest: Manifest) -> UploadFile | None:
    kind = form.get("code_content_type")
    if kind is not None and kind != "application/zip":
        raise _unusable(f"code_content_type must be application/zip; it is {kind}")
    code = form.get("code")
    if code is not None and not isinstance(code, UploadFile):
        raise _unusable("the part `code` must be a file: give it a filename")
    if not manifest.functions:
        return code
    if code is None:
        raise _unusable("code is required: the application has functions")
    if manifest.entrypoint is None:
        raise _unusable("an entrypoint is required: one function must be decorated as @application")
    return code


def _unusable(message: str) -> RequestError:
    return RequestError(400, "APPLICATION_INVALID", message)
