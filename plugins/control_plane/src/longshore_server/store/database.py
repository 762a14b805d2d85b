"""Opening the file: its place, its lock, its schema."""

from __future__ import annotations

import fcntl
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longshore_core import ConfigError
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool, StaticPool

from longshore_server.store import schema

FILE: Final = "longshore.db"
_URL: Final = "sqlite:///"
READERS: Final = 4
_PATH: Final = "state_store_path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """An open store whose schema is this server's. Nobody else writes to it."""

    file: Path
    write: Engine
    read: Engine
    lock: int

    def close(self) -> None:
        """Let go of the file. Idempotent but for the lock's descriptor, so: once."""
        self.read.dispose()
        self.write.dispose()
        os.close(self.lock)


def open_database(state_store_path: str) -> Database:
    """Open the store, making it when there is none and bringing its schema to ours.

    Raises ConfigError when the place cannot be used, when another server uses it, and when a newer
    server wrote it. Blocks.
    """
    file = place(state_store_path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(_PATH, f"cannot make {file.parent}: {exc.strerror}") from exc
    lock = _lock(file)
    writer, reader = _engine(file, writes=True), _engine(file, writes=False)
    database = Database(file=file, write=writer, read=reader, lock=lock)
    try:
        prepare(database.write)
    except SQLAlchemyError as exc:
        database.close()
        raise ConfigError(_PATH, f"cannot use {file}: {_cause(exc)}") from exc
    except BaseException:
        database.close()
        raise
    return database


def place(state_store_path: str) -> Path:
    """The file that a configured directory or `sqlite:///` URL means."""
    if state_store_path.startswith(_URL):
        return Path(state_store_path.removeprefix(_URL))
    if "://" in state_store_path:
        raise ConfigError(
            _PATH, f"{state_store_path!r} is neither a directory nor a sqlite:/// URL"
        )
    return Path(state_store_path) / FILE


def prepare(engine: Engine) -> None:
    """Bring the schema to HEAD. An empty file gets it at once, an older one by its migrations."""
    with engine.begin() as connection:
        found = revision(connection)
        if found == schema.HEAD:
            return
        if found is None:
            schema.metadata.create_all(connection)
            connection.execute(schema.version.insert().values(version_num=schema.HEAD))
            return
        if found not in schema.REVISIONS:
            raise ConfigError(
                _PATH,
                f"the store has schema {found}, which is newer than this server's {schema.HEAD};"
                " upgrade longshore-server, or choose another store",
            )
    # Alembic takes longer to import than the rest of the start: only when there is work for it.
    importlib.import_module("longshore_server.store.migrate").upgrade(engine)


def revision(connection: Connection) -> str | None:
    """The schema's version; `None` of an empty file."""
    if not inspect(connection).has_table(schema.version.name):
        return None
    return connection.scalar(select(schema.version.c.version_num))


def _lock(file: Path) -> int:
    # The scheduler's memory is the truth between two commits: a second server would undo it.
    path = file.with_name(f"{file.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(_PATH, f"cannot open {path}: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise ConfigError(
            _PATH, f"{file} is in use by another server; stop it or choose another store"
        ) from exc
    return descriptor


def _engine(file: Path, *, writes: bool) -> Engine:
    url = URL.create("sqlite", database=str(file))
    # Who uses a connection is one thread after the other, never two at once.
    arguments = {"check_same_thread": False, "timeout": 5}
    if writes:
        engine = create_engine(url, connect_args=arguments, poolclass=StaticPool)
    else:
        engine = create_engine(
            url, connect_args=arguments, poolclass=QueuePool, pool_size=READERS, max_overflow=0
        )

    def on_connect(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own transactions start late and leave out DDL: ours are explicit.
        connection.isolation_level = None  # pyright: ignore[reportAttributeAccessIssue]  # sqlite3's
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if not writes:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _cause(error: SQLAlchemyError) -> str:
    return str(error.__cause__ or error)
