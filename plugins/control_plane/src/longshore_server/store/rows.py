"""Between records and rows: how each change is written, and what is read at start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, RowMapping, Table, delete, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from longshore_server.changes import ApplicationRecord, Blob, Changes
from longshore_server.model import (
    ExecutorRecord,
    IdempotencyKey,
    NamespaceRecord,
    SandboxRecord,
    SandboxStatus,
)
from longshore_server.store import schema

_SANDBOX: Final = TypeAdapter(SandboxRecord)
_EXECUTOR: Final = TypeAdapter(ExecutorRecord)


def _upsert(table: Table, *fixed: str) -> Insert:
    """Insert, or replace all but the key columns and the `fixed` ones."""
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    rest = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in (*keys, *fixed)
    }
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)


_PUT_NAMESPACE: Final = _upsert(schema.namespaces, "created_at_ms")
_PUT_APPLICATION: Final = _upsert(schema.applications)
_PUT_SANDBOX: Final = _upsert(schema.sandboxes, "namespace", "application", "created_at_ms")
_PUT_EXECUTOR: Final = _upsert(schema.executors)
_PUT_KEY: Final = _upsert(schema.idempotency_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the in-memory index is built from. Sandboxes: the live ones only."""

    namespaces: tuple[NamespaceRecord, ...] = ()
    applications: frozenset[tuple[str, str]] = frozenset()
    executors: tuple[ExecutorRecord, ...] = ()
    sandboxes: tuple[SandboxRecord, ...] = ()
    keys: tuple[IdempotencyKey, ...] = ()
    unacknowledged: tuple[tuple[str, str], ...] = ()
    """Executors, and the containers of their AddContainer commands in the outbox."""


def write(connection: Connection, changes: Changes) -> None:
    """Write one turn. In the caller's transaction."""
    _write_tenants(connection, changes)
    if changes.sandboxes:
        connection.execute(_PUT_SANDBOX, [_sandbox(one) for one in changes.sandboxes.values()])
    if changes.keys:
        connection.execute(_PUT_KEY, [asdict(key) for key in changes.keys])
    if changes.keys_before_ms is not None:
        created = schema.idempotency_keys.c.created_at_ms
        connection.execute(delete(schema.idempotency_keys).where(created < changes.keys_before_ms))
    _write_executors(connection, changes)


def _write_tenants(connection: Connection, changes: Changes) -> None:
    if changes.namespaces:
        connection.execute(_PUT_NAMESPACE, [asdict(one) for one in changes.namespaces])
    for application in changes.applications:
        code = application.code
        row = {
            "namespace": application.namespace,
            "name": application.name,
            "created_at_ms": application.created_at_ms,
            "manifest": json.dumps(application.manifest),
            "code": None if code is None else json.dumps(asdict(code)),
        }
        connection.execute(_PUT_APPLICATION, row)
    columns = schema.applications.c
    for namespace, name in changes.dropped_applications:
        connection.execute(
            delete(schema.applications).where(columns.namespace == namespace, columns.name == name)
        )


def _write_executors(connection: Connection, changes: Changes) -> None:
    outbox = schema.commands
    for executor in (one.executor for one in changes.executors):
        row = {"id": executor.id, "document": _text(_EXECUTOR, executor), "acknowledged_seq": 0}
        connection.execute(_PUT_EXECUTOR, row)
        connection.execute(delete(outbox).where(outbox.c.executor_id == executor.id))
    for executor_id in changes.dropped_executors:
        connection.execute(delete(schema.executors).where(schema.executors.c.id == executor_id))
    for executor_id, seq in changes.acknowledged:
        connection.execute(
            delete(outbox).where(outbox.c.executor_id == executor_id, outbox.c.seq <= seq)
        )
        connection.execute(
            update(schema.executors)
            .where(schema.executors.c.id == executor_id)
            .values(acknowledged_seq=seq)
        )
    if changes.commands:
        connection.execute(insert(outbox), [asdict(command) for command in changes.commands])


def load(connection: Connection) -> Loaded:
    """Read what the index needs."""
    live = schema.sandboxes.c.status != SandboxStatus.TERMINATED.value
    outbox = schema.commands.c
    return Loaded(
        namespaces=tuple(
            NamespaceRecord(**row)
            for row in connection.execute(select(schema.namespaces)).mappings()
        ),
        applications=frozenset(
            (row.namespace, row.name)
            for row in connection.execute(
                select(schema.applications.c.namespace, schema.applications.c.name)
            )
        ),
        executors=tuple(
            _EXECUTOR.validate_json(row.document)
            for row in connection.execute(select(schema.executors.c.document))
        ),
        sandboxes=tuple(
            sandbox_of(row)
            for row in connection.execute(
                select(schema.sandboxes.c.document)
                .where(live)
                .order_by(schema.sandboxes.c.created_at_ms, schema.sandboxes.c.id)
            )
        ),
        keys=tuple(
            IdempotencyKey(**row)
            for row in connection.execute(select(schema.idempotency_keys)).mappings()
        ),
        unacknowledged=tuple(
            (row.executor_id, row.container_id)
            for row in connection.execute(
                select(outbox.executor_id, outbox.container_id).where(outbox.adds)
            )
        ),
    )


def sandbox_of(row: Row[Any]) -> SandboxRecord:
    """The record in a row that has a `document`."""
    return _SANDBOX.validate_json(row.document)


def application_of(row: RowMapping) -> ApplicationRecord:
    """The record in a whole row of `applications`."""
    code = None if row["code"] is None else Blob(**json.loads(row["code"]))
    return ApplicationRecord(
        namespace=row["namespace"],
        name=row["name"],
        created_at_ms=row["created_at_ms"],
        manifest=json.loads(row["manifest"]),
        code=code,
    )


def _sandbox(record: SandboxRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "namespace": record.namespace,
        "application": record.application,
        "status": record.status.value,
        "created_at_ms": record.created_at_ms,
        "document": _text(_SANDBOX, record),
    }


def _text(adapter: TypeAdapter[Any], record: object) -> str:
    return adapter.dump_json(record).decode()
