"""What the worker remembers: SQLite in WAL mode, a row a container, a row a report.

Killed at any point it opens to the state before the last commit or after it. A file that cannot be
read is an error that names it, never a fresh start.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

import anyio
from anyio import to_thread
from pydantic import TypeAdapter, ValidationError

from longshore_core._errors import BackendError, ConfigError
from longshore_core._machine.life import Container
from longshore_core._machine.reports import Numbered, Report
from longshore_core._model import ContainerId

SCHEMA: Final = 1

_CONTAINER: Final = TypeAdapter(Container)
_REPORT: Final[TypeAdapter[Report]] = TypeAdapter(Report)

_TABLES: Final = """
    CREATE TABLE container (id TEXT PRIMARY KEY, record TEXT NOT NULL, description BLOB NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE report (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL) STRICT;
"""
_PUT: Final = (
    "INSERT INTO container VALUES (?, ?, ?) ON CONFLICT (id)"
    " DO UPDATE SET record = excluded.record, description = excluded.description"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one turn of the keeper writes, all or nothing."""

    put: Mapping[ContainerId, Container] = field(default_factory=dict[ContainerId, Container])
    forget: frozenset[ContainerId] = frozenset()
    report: Sequence[Numbered] = ()
    delivered: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.put or self.forget or self.report or self.delivered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    containers: Mapping[ContainerId, Container]
    reports: Sequence[Numbered]
    last_number: int
    """The highest number that any report has ever had."""


Rows: TypeAlias = list[tuple[str, str, bytes]]


class Store:
    """One connection, used by one thread at a time. Opened by `open_store`."""

    def __init__(self, file: Path, connection: sqlite3.Connection) -> None:
        self._file = file
        self._connection = connection
        self._thread = anyio.CapacityLimiter(1)

    async def commit(self, changes: Changes) -> None:
        """Write `changes` in one transaction; on return they will outlive this process.

        Shielded: once begun, the caller learns how it ended. Raises BackendError when the file
        cannot be written to; then nothing of it was.
        """
        if not changes:
            return
        with anyio.CancelScope(shield=True):
            try:
                await to_thread.run_sync(self._commit, changes, limiter=self._thread)
            except sqlite3.Error as exc:
                raise BackendError(f"cannot write {self._file}: {exc}", retryable=True) from exc

    async def remembered(self) -> Remembered:
        """All that was committed. Raises ConfigError for a row that cannot be read."""
        return await to_thread.run_sync(self._read, limiter=self._thread)

    def _commit(self, changes: Changes) -> None:
        rows: Rows = [_row(container) for container in changes.put.values()]
        with self._connection as transaction:
            transaction.executemany(_PUT, rows)
            transaction.executemany(
                "DELETE FROM container WHERE id = ?", [(id_,) for id_ in changes.forget]
            )
            transaction.executemany(
                "INSERT OR REPLACE INTO report VALUES (?, ?)",
                [(item.number, _REPORT.dump_json(item.report).decode()) for item in changes.report],
            )
            transaction.executemany(
                "DELETE FROM report WHERE number = ?", [(number,) for number in changes.delivered]
            )

    def _read(self) -> Remembered:
        ask = self._connection.execute
        try:
            containers = [_container(*row) for row in ask("SELECT * FROM container")]
            reports = [
                Numbered(number=number, report=_REPORT.validate_json(body))
                for number, body in ask("SELECT * FROM report ORDER BY number")
            ]
            row = ask("SELECT seq FROM sqlite_sequence WHERE name = 'report'").fetchone()
        except (sqlite3.DatabaseError, ValidationError) as exc:
            raise _unreadable(self._file, exc) from exc
        return Remembered(
            containers={container.id: container for container in containers},
            reports=reports,
            last_number=row[0] if row else 0,
        )


@asynccontextmanager
async def open_store(file: Path) -> AsyncGenerator[Store]:
    """Open the store in `file`, made if it is absent.

    Raises ConfigError when it cannot be opened, is damaged, or was written by a newer Longshore.
    """
    connection = await to_thread.run_sync(_connect, file)
    try:
        yield Store(file, connection)
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(connection.close)


def _connect(file: Path) -> sqlite3.Connection:
    try:
        # SQLite would make it readable for all; what it makes beside it gets the same mode.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(file, check_same_thread=False, timeout=5)
    except (OSError, sqlite3.Error) as exc:
        raise _unreadable(file, exc) from exc
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise ConfigError(
                "state_dir",
                f"{file} has schema {version}, this Longshore reads up to {SCHEMA};"
                " run the version that wrote it, or a newer one",
            )
        if version == 0:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
    except sqlite3.DatabaseError as exc:
        connection.close()
        raise _unreadable(file, exc) from exc
    except BaseException:
        connection.close()
        raise
    return connection


def _row(container: Container) -> tuple[str, str, bytes]:
    description = container.order.description
    bare = replace(container, order=replace(container.order, description=b""))
    return container.id, _CONTAINER.dump_json(bare).decode(), description


def _container(_id: str, record: str, description: bytes) -> Container:
    bare = _CONTAINER.validate_json(record)
    return replace(bare, order=replace(bare.order, description=description))


def _unreadable(file: Path, exc: Exception) -> ConfigError:
    reason = "it holds a record that cannot be read" if isinstance(exc, ValidationError) else exc
    return ConfigError(
        "state_dir", f"cannot use {file}: {reason}; restore it, or move it away to start empty"
    )
