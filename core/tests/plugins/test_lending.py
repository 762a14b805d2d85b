"""What plugins lend is blamed on them, and what its users do with it is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from longshore_core import BackendError, Chunk, PluginContractError, PluginCrash, Stream
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.lending import lent, stream

ORIGIN = Installed(group="g", name="acme", value="acme", distribution="acme", version="1.0")
CHUNK = Chunk(Stream.STDOUT, 0, b"x")


@asynccontextmanager
async def tasks(*, fails: BaseException | None = None) -> AsyncGenerator[str]:
    """Lends within a task group, which wraps whatever is raised."""
    async with anyio.create_task_group():
        yield "thing"
        if fails is not None:
            raise fails


async def test_an_error_of_the_user_is_not_blamed_on_the_plugin() -> None:
    with pytest.raises(KeyError):
        async with lent(ORIGIN, "run", tasks()):
            raise KeyError("mine")


async def test_a_bug_of_the_plugin_is_blamed_on_it() -> None:
    with pytest.raises(PluginCrash) as caught:
        async with lent(ORIGIN, "run", tasks(fails=KeyError("its own"))):
            pass
    assert str(caught.value) == "plugin acme (acme 1.0): run raised KeyError: 'its own'"


async def test_what_the_world_did_to_the_plugin_passes() -> None:
    with pytest.raises(BackendError, match="the engine went away"):
        async with lent(ORIGIN, "run", tasks(fails=BackendError("the engine went away"))):
            pass


async def test_cancelling_the_user_is_no_crash_of_the_plugin() -> None:
    with anyio.CancelScope() as scope:
        async with lent(ORIGIN, "run", tasks()):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


class Tells:
    """A plugin's stream, which knows whether it was closed."""

    closed = False

    async def items(self, *items: object) -> AsyncGenerator[object]:
        try:
            for item in items:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True

    @asynccontextmanager
    async def opening(self, *items: object) -> AsyncGenerator[AsyncIterator[object]]:
        yield self.items(*items)


async def test_a_stream_that_is_left_early_is_closed() -> None:
    tells = Tells()
    async with stream(ORIGIN, "logs", tells.opening(CHUNK, CHUNK), Chunk) as chunks:
        assert await anext(chunks) == CHUNK
    assert tells.closed


async def test_what_is_of_no_such_kind_breaks_the_contract_by_name() -> None:
    async with stream(ORIGIN, "logs", Tells().opening(CHUNK, "text"), Chunk) as chunks:
        assert await anext(chunks) == CHUNK
        with pytest.raises(PluginContractError, match="logs returned a str, not Chunk"):
            await anext(chunks)


async def test_a_stream_that_crashes_is_blamed_on_the_plugin() -> None:
    async with stream(ORIGIN, "logs", Tells().opening(ValueError("odd")), Chunk) as chunks:
        with pytest.raises(PluginCrash, match="logs raised ValueError: odd"):
            await anext(chunks)
