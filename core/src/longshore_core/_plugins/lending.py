"""What a plugin hands out to be used for a while: streams and processes, blamed all along."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from longshore_core._errors import PluginContractError
from longshore_core._model import Chunk
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import blame, innermost
from longshore_core.abc import Running

ThingT = TypeVar("ThingT")


@asynccontextmanager
async def lent(
    origin: Installed, operation: str, opening: AbstractAsyncContextManager[ThingT]
) -> AsyncGenerator[ThingT]:
    """Enter what a plugin has opened. Its errors are blamed on it; those of its user are not."""
    theirs: BaseException | None = None
    try:
        async with opening as thing:
            try:
                yield thing
            except BaseException as exc:
                theirs = exc
                raise
    except BaseException as exc:
        # A task group of the plugin's may have wrapped what is none of its doing.
        if theirs is not None and innermost(exc) is innermost(theirs):
            raise theirs from theirs.__cause__
        with blame(origin, operation):
            raise


@asynccontextmanager
async def stream(
    origin: Installed,
    operation: str,
    opening: AbstractAsyncContextManager[AsyncIterator[ThingT]],
    kind: type[ThingT],
) -> AsyncGenerator[AsyncIterator[ThingT]]:
    """Follow what a plugin tells, which must be of a kind."""
    async with (
        lent(origin, operation, opening) as items,
        aclosing(_each(origin, operation, items, kind)) as checked,
    ):
        yield checked


async def _each(
    origin: Installed, operation: str, items: AsyncIterator[ThingT], kind: type[ThingT]
) -> AsyncGenerator[ThingT]:
    try:
        while True:
            with blame(origin, operation):
                item = await anext(items, None)
            if item is None:
                return
            yield expected(origin, operation, item, kind)
    finally:
        # Whoever listens no longer cannot reach what the plugin made, and nobody else closes it.
        if isinstance(items, AsyncGenerator):
            with blame(origin, operation):
                await items.aclose()


def expected(origin: Installed, operation: str, thing: object, kind: type[ThingT]) -> ThingT:
    """`thing`, if it is what the contract says. Raises PluginContractError."""
    if isinstance(thing, kind):
        return thing
    message = f"{operation} returned a {type(thing).__name__}, not {kind.__name__}"
    raise PluginContractError(origin.label, message)


@dataclass(frozen=True, slots=True)
class LentProcess(Running):
    """A process beside PID 1, as the worker has it."""

    process: Running
    origin: Installed

    async def send(self, data: bytes) -> None:
        with blame(self.origin, "send"):
            await self.process.send(data)

    async def send_eof(self) -> None:
        with blame(self.origin, "send_eof"):
            await self.process.send_eof()

    async def output(self) -> AsyncIterator[Chunk]:
        with blame(self.origin, "output"):
            items = self.process.output()
        async with aclosing(_each(self.origin, "output", items, Chunk)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def wait(self) -> int:
        with blame(self.origin, "wait"):
            code = await self.process.wait()
        return expected(self.origin, "wait", code, int)
