"""Doing several things at once, with errors as they are: alone, and not in a group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import anyio
from longshore_core import BackendError


async def together(calls: Iterable[Callable[[], Awaitable[None]]], *, at_once: int) -> None:
    """Make all the calls, some at a time. The first BackendError ends the rest, and is raised."""
    failures = list[BackendError]()
    limiter = anyio.CapacityLimiter(at_once)

    async with anyio.create_task_group() as tasks:

        async def make(call: Callable[[], Awaitable[None]]) -> None:
            try:
                async with limiter:
                    await call()
            except BackendError as exc:
                failures.append(exc)
                tasks.cancel_scope.cancel()

        for call in calls:
            tasks.start_soon(make, call)
    if failures:
        raise failures[0]
