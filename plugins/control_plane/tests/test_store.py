"""The store: its schema, its lock, its migrations."""

from __future__ import annotations

import subprocess
import sys

import pytest
from longshore_core import ConfigError
from longshore_server.store import migrate, schema
from longshore_server.store.database import FILE, open_database, place, revision
from sqlalchemy import create_engine, text


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
