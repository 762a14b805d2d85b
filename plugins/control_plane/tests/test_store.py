"""The store: its schema, its lock, its migrations."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import ConfigError
from longshore_server.changes import Changes
from longshore_server.model import (
    ContainerDetail,
    Gpu,
    NamespaceRecord,
    NetworkRules,
    PendingReason,
    Resources,
    SandboxRecord,
    SandboxSpec,
    SandboxStatus,
)
from longshore_server.store import migrate, rows, schema
from longshore_server.store.database import FILE, open_database, place, revision
from sqlalchemy import create_engine, select, text


def described(engine):
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        )
        objects = sorted(tuple(row) for row in tables)
        columns = {
            name: connection.execute(text(f"PRAGMA table_info({name})")).all()
            for kind, name, _ in objects
            if kind == "table"
        }
        indexes = {
            name: connection.execute(text(f"PRAGMA index_info({name})")).all()
            for kind, name, _ in objects
            if kind == "index"
        }
        keys = {
            name: connection.execute(text(f"PRAGMA foreign_key_list({name})")).all()
            for name in columns
        }
        return objects, columns, indexes, keys


def test_the_migrations_lead_to_the_very_schema_that_a_new_store_gets(tmp_path):
    fresh = open_database(str(tmp_path / "fresh"))
    migrated = create_engine(f"sqlite:///{tmp_path}/migrated.db")
    migrate.upgrade(migrated)
    try:
        assert described(migrated) == described(fresh.read)
        with migrated.connect() as connection:
            assert revision(connection) == schema.HEAD
    finally:
        fresh.close()
        migrated.dispose()


def test_a_store_of_a_newer_server_is_refused(tmp_path):
    database = open_database(str(tmp_path))
    with database.write.begin() as connection:
        connection.execute(schema.version.update().values(version_num="9999"))
    database.close()
    with pytest.raises(ConfigError) as caught:
        open_database(str(tmp_path))
    assert str(caught.value) == (
        "state_store_path: the store has schema 9999, which is newer than this server's"
        f" {schema.HEAD}; upgrade longshore-server, or choose another store"
    )


def test_two_servers_cannot_share_a_store(tmp_path):
    database = open_database(str(tmp_path))
    try:
        with pytest.raises(ConfigError) as caught:
            open_database(str(tmp_path))
        assert str(caught.value) == (
            f"state_store_path: {tmp_path / FILE} is in use by another server;"
            " stop it or choose another store"
        )
    finally:
        database.close()
    open_database(str(tmp_path)).close()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"not a database, and long enough to be read as one" * 100)
    with pytest.raises(ConfigError, match="file is not a database"):
        open_database(str(tmp_path))


def test_a_place_is_a_directory_or_a_url(tmp_path):
    assert place(f"{tmp_path}") == tmp_path / FILE
    assert place(f"sqlite:///{tmp_path}/x.db") == tmp_path / "x.db"
    with pytest.raises(ConfigError, match="neither a directory nor a sqlite:/// URL"):
        place("postgresql://host/db")


def test_starting_on_a_current_store_does_not_import_alembic(tmp_path):
    script = (
        "import sys; import longshore_server.app;"
        "from longshore_server.store.database import open_database;"
        f"open_database({str(tmp_path)!r}).close();"
        f"open_database({str(tmp_path)!r}).close();"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


details = st.builds(
    ContainerDetail,
    image_applied=st.none() | st.booleans(),
    error_message=st.none() | st.text(),
    exit_code=st.none() | st.integers(-1, 255),
)
specs = st.builds(
    SandboxSpec,
    image=st.text(),
    resources=st.builds(
        Resources,
        cpu_millis=st.integers(0, 2**40),
        gpu=st.none() | st.builds(Gpu, model=st.text(), count=st.integers(0, 9)),
    ),
    timeout_secs=st.integers(0, 2**53),
    entrypoint=st.lists(st.text(), max_size=3).map(tuple),
    network=st.none() | st.builds(NetworkRules, allow_out=st.lists(st.text()).map(tuple)),
    exposed_ports=st.none() | st.lists(st.integers(1, 65535), max_size=2).map(tuple),
)
records = st.builds(
    SandboxRecord,
    id=st.text(min_size=1),
    namespace=st.just("n"),
    application=st.none() | st.text(),
    created_at_ms=st.integers(0, 2**53),
    spec=specs,
    status=st.sampled_from(SandboxStatus),
    pending_reason=st.none() | st.sampled_from(PendingReason),
    outcome=st.none() | st.text(),
    executor_id=st.none() | st.text(),
    container_id=st.none() | st.text(),
    detail=details,
    terminated_at_ms=st.none() | st.integers(0, 2**53),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    opened = open_database(str(tmp_path_factory.mktemp("store")))
    yield opened
    opened.close()


@given(record=records)
def test_a_sandbox_is_read_as_it_was_written(database, record):
    namespace = NamespaceRecord(name="n", created_at_ms=1)
    with database.write.begin() as connection:
        changes = Changes(namespaces=[namespace], sandboxes={record.id: record})
        rows.write(connection, changes)
        query = select(schema.sandboxes.c.document).where(schema.sandboxes.c.id == record.id)
        assert rows.sandbox_of(connection.execute(query).one()) == record
        connection.rollback()
