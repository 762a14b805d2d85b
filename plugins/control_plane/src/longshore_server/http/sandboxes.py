"""Routes of sandboxes, the same under each of their three prefixes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Final

import anyio
from fastapi import APIRouter, Header, Query, Request, Response
from longshore_core import RequestError

from longshore_server.http.errors import SandboxError
from longshore_server.http.services import Api, Limit, Services, Tenant, Whose
from longshore_server.http.shapes import (
    CreatedSandbox,
    CreateSandbox,
    SandboxInfo,
    SandboxList,
    UpdateSandbox,
    WaitSeconds,
    sandbox_info,
)
from longshore_server.identity import new_id
from longshore_server.model import IdempotencyKey, PendingReason, SandboxRecord, SandboxStatus
from longshore_server.sandboxes import USER_TERMINATED
from longshore_server.store.reader import PAGE, Page, SandboxFilter

router: Final = APIRouter()
WAIT_SECONDS: Final = 300.0
_WHY_PENDING: Final[Mapping[PendingReason, str]] = {
    PendingReason.NO_EXECUTORS_AVAILABLE: "no worker is connected that may run it",
    PendingReason.NO_RESOURCES_AVAILABLE: "no worker has free what it asks for",
    PendingReason.SCHEDULING: "it waits for a worker",
    PendingReason.WAITING_FOR_CONTAINER: "it is still being started",
}


@router.post("", response_model_exclude_none=True, summary="Create a sandbox")
async def create_sandbox(
    request: Request,
    api: Api,
    whose: Whose,
    body: CreateSandbox | None = None,
    wait: Annotated[bool, Query(description="answer when it runs")] = False,
    wait_timeout_secs: Annotated[WaitSeconds | None, Query()] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> CreatedSandbox:
    wish = body or CreateSandbox()
    if wish.snapshot_id is not None:
        raise RequestError(
            501, "UNSUPPORTED_CAPABILITY", "snapshot_id: this server offers no snapshots"
        )
    _require_application(api, whose)
    now_ms = time.time_ns() // 1_000_000
    record = SandboxRecord(
        id=new_id(),
        namespace=whose.namespace,
        application=whose.application,
        name=wish.name,
        created_at_ms=now_ms,
        spec=wish.spec(api.settings),
    )
    key = None
    if idempotency_key is not None:
        key = IdempotencyKey(
            namespace=whose.namespace,
            key=idempotency_key,
            digest=wish.digest(whose.application),
            sandbox_id=record.id,
            created_at_ms=now_ms,
        )
    record = await api.plane.create(record, key)
    if wait or wish.wait:
        asked = [one for one in (wait_timeout_secs, wish.wait_timeout_secs) if one is not None]
        record = await _running(request, api, record, min([*asked, _client_patience(request)]))
    return CreatedSandbox(**_info(api, record).model_dump())


@router.get("", response_model_exclude_none=True, summary="List sandboxes, the newest first")
async def list_sandboxes(
    api: Api,
    whose: Whose,
    limit: Limit = PAGE,
    cursor: str | None = None,
    status: SandboxStatus | None = None,
) -> SandboxList:
    _require_application(api, whose)
    which = SandboxFilter(namespace=whose.namespace, application=whose.application, status=status)
    found, following = await api.plane.reader.sandboxes(which, Page(limit=limit, cursor=cursor))
    return SandboxList(sandboxes=[_info(api, one) for one in found], cursor=following)


@router.get("/{sandbox_id}", response_model_exclude_none=True, summary="Look at a sandbox")
async def get_sandbox(api: Api, whose: Whose, sandbox_id: str) -> SandboxInfo:
    return _info(api, await _found(api, whose, sandbox_id))


@router.patch(
    "/{sandbox_id}",
    response_model_exclude_none=True,
    summary="Rename a sandbox, or change who may reach it",
)
async def update_sandbox(
    api: Api, whose: Whose, sandbox_id: str, body: UpdateSandbox
) -> SandboxInfo:
    await _found(api, whose, sandbox_id)
    live = api.plane.index.live.get(api.plane.id_of(whose.namespace, sandbox_id))
    if live is None:
        raise RequestError(
            409, "SANDBOX_TERMINATED", f"sandbox {sandbox_id} has ended; nothing of it can change"
        )
    changed = body.applied_to(live)
    await api.plane.update(changed)
    return _info(api, changed)


@router.delete(
    "/{sandbox_id}",
    summary="End a sandbox; ending it again changes nothing",
    response_class=Response,
)
async def delete_sandbox(api: Api, whose: Whose, sandbox_id: str) -> Response:
    if whose.application is not None:
        await _found(api, whose, sandbox_id)
    one = api.plane.id_of(whose.namespace, sandbox_id)
    if not await api.plane.delete(whose.namespace, one):
        raise _no_such(sandbox_id)
    return Response()


def _require_application(api: Services, whose: Tenant) -> None:
    name = whose.application
    if name is not None and (whose.namespace, name) not in api.plane.index.applications:
        raise RequestError(
            404, "APPLICATION_NOT_FOUND", f"no application {name!r} in namespace {whose.namespace}"
        )


async def _found(api: Services, whose: Tenant, sandbox_id: str) -> SandboxRecord:
    record = await api.plane.reader.sandbox(api.plane.id_of(whose.namespace, sandbox_id))
    if (
        record is not None
        and record.namespace == whose.namespace
        and whose.application in (None, record.application)
    ):
        return record
    _require_application(api, whose)
    raise _no_such(sandbox_id)


def _no_such(sandbox_id: str) -> RequestError:
    return RequestError(404, "SANDBOX_NOT_FOUND", f"no sandbox {sandbox_id!r}")


def _info(api: Services, record: SandboxRecord) -> SandboxInfo:
    return sandbox_info(record, api.proxy_address(record), api.settings)


async def _running(
    request: Request, api: Services, record: SandboxRecord, seconds: float
) -> SandboxRecord:
    """The sandbox once it runs, for as long as the caller is there to hear of it."""
    result: SandboxRecord | RequestError | None = None
    patience = anyio.move_on_after(seconds)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_with_caller, request, tasks.cancel_scope)
        with patience:
            try:
                result = await api.plane.wait_past_pending(record)
            except RequestError as exc:
                result = exc
        tasks.cancel_scope.cancel()
    if isinstance(result, RequestError):
        raise result
    if result is None and not patience.cancelled_caught:
        return record  # The caller has left, and hears nothing of it.
    if result is None:
        result = await api.plane.reader.sandbox(record.id) or record
    if result.status is SandboxStatus.PENDING:
        waiting = _WHY_PENDING[result.pending_reason or PendingReason.SCHEDULING]
        raise SandboxError(
            "TIMEOUT",
            f"sandbox {record.id} does not run yet after {seconds:g} s; {waiting}",
            record.id,
            SandboxStatus.PENDING,
        )
    if result.outcome == USER_TERMINATED:
        raise SandboxError(
            "SANDBOX_TERMINATED",
            f"sandbox {record.id} was deleted before it ran",
            record.id,
            SandboxStatus.TERMINATED,
        )
    if result.status is SandboxStatus.TERMINATED:
        why = result.detail.error_message or result.outcome
        raise SandboxError(
            "SANDBOX_FAILED",
            f"sandbox {record.id} ended before it ran: {why}",
            record.id,
            SandboxStatus.TERMINATED,
        )
    return result


async def _leave_with_caller(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _client_patience(request: Request) -> float:
    """How long the caller will wait for an answer, by the headers in which clients say so."""
    given = _milliseconds(request, "x-tensorlake-request-timeout-ms")
    if given is None:
        return WAIT_SECONDS
    grace = _milliseconds(request, "x-tensorlake-request-timeout-grace-ms") or 0
    return min(WAIT_SECONDS, max(given - grace, 0) / 1000)


def _milliseconds(request: Request, name: str) -> int | None:
    text = request.headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
