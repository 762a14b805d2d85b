"""Bringing an older store to this server's schema. Imported only when there is one."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from longshore_server.store import schema


def upgrade(engine: Engine, to: str = schema.HEAD) -> None:
    """Run the migrations up to `to`, in one transaction: all of them or none."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
