"""The tables, and the versions of them that this server can read."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

REVISIONS: Final = ("0001",)
"""Oldest first. The scripts under `migrations/versions` lead from each to the next."""
HEAD: Final = REVISIONS[-1]

metadata: Final = MetaData()

version: Final = Table(
    "alembic_version", metadata, Column("version_num", String(32), primary_key=True)
)

namespaces: Final = Table(
    "namespaces",
    metadata,
    Column("name", String, primary_key=True),
    Column("created_at_ms", Integer, nullable=False),
    Column("blob_storage_bucket", String),
    Column("blob_storage_region", String),
)

applications: Final = Table(
    "applications",
    metadata,
    Column("namespace", String, ForeignKey("namespaces.name"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("created_at_ms", Integer, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("code", Text),
)

executors: Final = Table(
    "executors",
    metadata,
    Column("id", String, primary_key=True),
    Column("document", Text, nullable=False),
    Column("acknowledged_seq", Integer, nullable=False, server_default="0"),
)

sandboxes: Final = Table(
    "sandboxes",
    metadata,
    Column("id", String, primary_key=True),
    Column("namespace", String, ForeignKey("namespaces.name"), nullable=False),
    Column("application", String),
    Column("status", String, nullable=False),
    Column("created_at_ms", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Index("sandboxes_by_age", "namespace", "created_at_ms", "id"),
    Index("sandboxes_by_status", "status"),
)

commands: Final = Table(
    "commands",
    metadata,
    Column("executor_id", String, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("container_id", String, nullable=False),
    Column("adds", Boolean, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    ForeignKeyConstraint(["executor_id"], ["executors.id"], ondelete="CASCADE"),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("namespace", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("sandbox_id", String, nullable=False),
    Column("created_at_ms", Integer, nullable=False),
)
