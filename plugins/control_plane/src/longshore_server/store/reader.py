"""Reading the store: threads and connections of their own, beside the writer.

A reader sees whole transactions only, so whatever it answers is durable.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import anyio
from anyio import to_thread
from longshore_core import RequestError
from sqlalchemy import Connection, Engine, select, text, tuple_
from sqlalchemy.exc import SQLAlchemyError

from longshore_server.changes import ApplicationRecord
from longshore_server.model import SandboxRecord, SandboxStatus
from longshore_server.store import rows, schema
from longshore_server.store.database import READERS

PAGE: Final = 100
AnswerT = TypeVar("AnswerT")
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where in a list to go on, and how far."""

    limit: int = PAGE
    cursor: str | None = None
    backward: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFilter:
    namespace: str
    application: str | None = None
    status: SandboxStatus | None = None


class Reader:
    """Answers from the last commit. Raises RequestError STORE_UNAVAILABLE when it cannot."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = anyio.CapacityLimiter(READERS)

    async def ping(self) -> None:
        """Ask the database anything."""
        await self._ask(lambda connection: connection.execute(text("SELECT 1")).all())

    async def load(self) -> rows.Loaded:
        """All that the index is built from."""
        return await self._ask(rows.load)

    async def sandbox(self, sandbox_id: str) -> SandboxRecord | None:
        """One sandbox, live or terminated."""
        query = select(schema.sandboxes.c.document).where(schema.sandboxes.c.id == sandbox_id)

        def ask(connection: Connection) -> SandboxRecord | None:
            row = connection.execute(query).one_or_none()
            return None if row is None else rows.sandbox_of(row)

        return await self._ask(ask)

    async def sandboxes(
        self, which: SandboxFilter, page: Page
    ) -> tuple[Sequence[SandboxRecord], str | None]:
        """Sandboxes, the newest first, and the cursor of the next page."""
        columns = schema.sandboxes.c
        query = select(columns.document).where(columns.namespace == which.namespace)
        if which.application is not None:
            query = query.where(columns.application == which.application)
        if which.status is not None:
            query = query.where(columns.status == which.status.value)
        if page.cursor is not None:
            after = _decoded(page.cursor, int, str)
            query = query.where(tuple_(columns.created_at_ms, columns.id) < tuple_(*after))
        query = query.order_by(columns.created_at_ms.desc(), columns.id.desc())
        query = query.limit(page.limit + 1)

        def ask(connection: Connection) -> list[SandboxRecord]:
            return [rows.sandbox_of(row) for row in connection.execute(query)]

        return _cut(await self._ask(ask), page, lambda last: [last.created_at_ms, last.id])

    async def application(self, namespace: str, name: str) -> ApplicationRecord | None:
        """One application."""
        columns = schema.applications.c
        query = select(schema.applications).where(
            columns.namespace == namespace, columns.name == name
        )

        def ask(connection: Connection) -> ApplicationRecord | None:
            row = connection.execute(query).mappings().one_or_none()
            return None if row is None else rows.application_of(row)

        return await self._ask(ask)

    async def applications(
        self, namespace: str, page: Page
    ) -> tuple[Sequence[ApplicationRecord], str | None]:
        """Applications by name, and the cursor of the next page."""
        columns = schema.applications.c
        query = select(schema.applications).where(columns.namespace == namespace)
        if page.cursor is not None:
            (after,) = _decoded(page.cursor, str)
            query = query.where(columns.name < after if page.backward else columns.name > after)
        order = columns.name.desc() if page.backward else columns.name
        query = query.order_by(order).limit(page.limit + 1)

        def ask(connection: Connection) -> list[ApplicationRecord]:
            return [rows.application_of(row) for row in connection.execute(query).mappings()]

        return _cut(await self._ask(ask), page, lambda last: [last.name])

    async def _ask(self, ask: Callable[[Connection], AnswerT]) -> AnswerT:
        def in_thread() -> AnswerT:
            with self._engine.connect() as connection:
                return ask(connection)

        try:
            return await to_thread.run_sync(in_thread, limiter=self._threads)
        except SQLAlchemyError as exc:
            raise RequestError(
                503, "STORE_UNAVAILABLE", "the database cannot be read", retryable=True
            ) from exc


def _cut(
    found: list[ItemT], page: Page, key: Callable[[ItemT], list[object]]
) -> tuple[list[ItemT], str | None]:
    """One more than asked for was read: whether it exists says whether there is a next page."""
    if len(found) <= page.limit:
        return found, None
    kept = found[: page.limit]
    return kept, base64.urlsafe_b64encode(json.dumps(key(kept[-1])).encode()).decode()


def _decoded(cursor: str, *kinds: type) -> list[Any]:
    try:
        parts: object = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, binascii.Error) as exc:
        raise _bad_cursor(cursor) from exc
    if not isinstance(parts, list):
        raise _bad_cursor(cursor)
    values = cast("list[object]", parts)
    if [type(value) for value in values] != list(kinds):
        raise _bad_cursor(cursor)
    return values


def _bad_cursor(cursor: str) -> RequestError:
    return RequestError(
        422, "INVALID_REQUEST", f"query.cursor: {cursor!r} is none that this list gave out"
    )
