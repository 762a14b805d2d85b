"""Routes for operators and for our own processes."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from longshore_core import RequestError

from longshore_server.http.services import Api, Services, check_namespace
from longshore_server.http.shapes import CreateNamespace, SandboxLookup, resources_json
from longshore_server.index import Slot
from longshore_server.model import NamespaceRecord, SandboxRecord

router: Final = APIRouter()
_INDEX: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Longshore</title>
<h1>Longshore server</h1>
<p><a href="/docs">The API</a> · <a href="/healthz">Health</a> ·
<a href="/internal/executors">Executors</a></p></html>
"""


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def index() -> HTMLResponse:
    return HTMLResponse(_INDEX)


@router.get("/healthz", summary="Whether the server can do its work")
async def health(api: Api) -> dict[str, Any]:
    api.plane.refuse_when_unable()
    await api.plane.reader.ping()
    checks = {"database": "ok", "executor_manager": "ok"}
    return {"status": "ok", "version": version("longshore-server"), "checks": checks}


@router.get("/namespaces", summary="List namespaces")
async def list_namespaces(api: Api) -> dict[str, Any]:
    known = sorted(api.plane.index.namespaces.values(), key=lambda one: one.name)
    return {
        "namespaces": [
            {
                "name": one.name,
                "created_at": one.created_at_ms,
                "blob_storage_bucket": one.blob_storage_bucket,
            }
            for one in known
        ]
    }


@router.post(
    "/namespaces", summary="Make a namespace; an existing one is no error", response_class=Response
)
async def create_namespace(api: Api, body: CreateNamespace) -> Response:
    if body.blob_storage_bucket is not None and body.blob_storage_region is None:
        raise RequestError(400, "BAD_REQUEST", "blob storage region is required")
    record = NamespaceRecord(
        name=check_namespace(body.name),
        created_at_ms=time.time_ns() // 1_000_000,
        blob_storage_bucket=body.blob_storage_bucket,
        blob_storage_region=body.blob_storage_region,
    )
    await api.plane.put_namespace(record)
    return Response()


@router.get("/internal/executors", summary="The executors that are connected")
async def list_executors(api: Api) -> list[dict[str, Any]]:
    slots = [slot for slot in api.plane.index.slots.values() if slot.registered]
    return [_executor(api, slot) for slot in sorted(slots, key=lambda slot: slot.record.id)]


@router.get("/internal/executor_catalog", summary="The kinds of machines that executors run on")
async def executor_catalog(api: Api) -> dict[str, Any]:
    return {"entries": [one.model_dump(mode="json") for one in api.settings.executor_catalog]}


@router.get("/internal/v1/sandboxes/{sandbox_id}", summary="Where a live sandbox is")
async def lookup(api: Api, sandbox_id: str) -> SandboxLookup:
    return _lookup(api, api.plane.index.live.get(sandbox_id), sandbox_id)


@router.get(
    "/internal/v1/namespaces/{namespace}/sandboxes/{sandbox_id}", summary="Where a live sandbox is"
)
async def lookup_in_namespace(api: Api, namespace: str, sandbox_id: str) -> SandboxLookup:
    record = api.plane.index.live.get(sandbox_id)
    mine = record is not None and record.namespace == namespace
    return _lookup(api, record if mine else None, sandbox_id)


def _lookup(api: Services, record: SandboxRecord | None, sandbox_id: str) -> SandboxLookup:
    if record is None:
        raise RequestError(404, "SANDBOX_NOT_FOUND", f"no live sandbox {sandbox_id!r}")
    ports = record.spec.exposed_ports
    return SandboxLookup(
        id=record.id,
        namespace=record.namespace,
        status=record.status,
        dataplane_api_address=api.proxy_address(record),
        allow_unauthenticated_access=record.spec.allow_unauthenticated_access,
        exposed_ports=None if ports is None else list(ports),
    )


def _executor(api: Services, slot: Slot) -> dict[str, Any]:
    record = slot.record
    placed = [api.plane.index.live[one] for one in slot.placed.values()]
    leaving = [one for one in slot.containers if one not in slot.placed]
    return {
        "id": record.id,
        "executor_version": record.version,
        "function_allowlist": [
            {
                "namespace": one.namespace,
                "application": one.application,
                "function": one.function,
                "version": one.version,
            }
            for one in record.allowed
        ]
        or None,
        "addr": record.proxy_address or "",
        "hostname": record.hostname,
        "labels": dict(record.labels),
        "containers": [_container(one) for one in placed],
        "server_only_containers": [],
        "leaving_containers": leaving,
        "host_resources": {"cpu_count": record.cpu_count, **resources_json(record.host)},
        "free_resources": {"cpu_ms_per_sec": slot.free.cpu_millis, **resources_json(slot.free)},
        "state": "drained" if slot.draining else "running",
        "tombstoned": False,
        "state_hash": "",
        "clock": slot.epoch,
        "catalog_entry_name": record.catalog_entry_name,
        "ready_for_teardown": not slot.containers,
    }


def _container(sandbox: SandboxRecord) -> dict[str, Any]:
    return {
        "id": sandbox.container_id,
        "namespace": sandbox.namespace,
        "application_name": sandbox.application or "",
        "function_name": sandbox.id,
        "version": "",
        "max_concurrency": 1,
        "state": sandbox.status.value,
        "desired_state": "running",
        "num_allocations": 0,
    }
