"""What every provider of secrets promises, against `acme`."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from longshore_acme import longshore_secrets
from longshore_core import BackendError, Gap, Host, Transition


@asynccontextmanager
async def no_transitions() -> AsyncGenerator[AsyncIterator[Transition | Gap]]:
    async def none() -> AsyncIterator[Transition | Gap]:
        await anyio.sleep_forever()
        yield Gap(first=0, last=0)

    yield none()


def fetch(place: Path, *names: str) -> Mapping[str, str]:
    """Open it as the worker does, and ask it once."""

    async def ask() -> Mapping[str, str]:
        plug = longshore_secrets()
        host = Host(
            name="acme",
            owner="worker-1/secrets",
            state_dir=place,
            logger=logging.getLogger("acme"),
            transitions=no_transitions,
        )
        async with plug.open(plug.config(), host) as provider:
            return await provider.fetch("default", names)

    return anyio.run(ask)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The worker's state directory for it, with one secret in one namespace."""
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "KEY").write_text("value\n")
    return tmp_path


def test_what_is_asked_for_is_answered_by_name(place: Path) -> None:
    assert fetch(place, "KEY") == {"KEY": "value"}
    assert fetch(place) == {}


@pytest.mark.parametrize("name", ["MISSING", "../default/KEY", "", ".KEY", "a\0b"])
def test_less_than_was_asked_for_is_an_error_that_names_it(place: Path, name: str) -> None:
    with pytest.raises(BackendError) as refused:
        fetch(place, "KEY", name)
    assert name in str(refused.value)
    assert "value" not in str(refused.value)
