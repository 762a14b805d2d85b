"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables. Written out, not taken from `schema`: that one moves on."""
    op.create_table(
        "namespaces",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("created_at_ms", sa.Integer, nullable=False),
        sa.Column("blob_storage_bucket", sa.String),
        sa.Column("blob_storage_region", sa.String),
    )
    op.create_table(
        "applications",
        sa.Column("namespace", sa.String, sa.ForeignKey("namespaces.name"), primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("created_at_ms", sa.Integer, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
    )
    op.create_table(
        "executors",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("acknowledged_seq", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "sandboxes",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("namespace", sa.String, sa.ForeignKey("namespaces.name"), nullable=False),
        sa.Column("application", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at_ms", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("sandboxes_by_age", "sandboxes", ["namespace", "created_at_ms", "id"])
    op.create_index("sandboxes_by_status", "sandboxes", ["status"])
    op.create_table(
        "commands",
        sa.Column("executor_id", sa.String, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("container_id", sa.String, nullable=False),
        sa.Column("adds", sa.Boolean, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["executor_id"], ["executors.id"], ondelete="CASCADE"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("namespace", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("sandbox_id", sa.String, nullable=False),
        sa.Column("created_at_ms", sa.Integer, nullable=False),
    )
