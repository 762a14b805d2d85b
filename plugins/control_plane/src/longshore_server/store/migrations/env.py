"""What Alembic runs: the caller's connection, in the caller's transaction."""

from __future__ import annotations

from alembic import context
from longshore_server.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
)
context.run_migrations()
