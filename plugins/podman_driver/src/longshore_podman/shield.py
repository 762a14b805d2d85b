"""What is not broken off in the middle, but does not hold up a worker that stops, either."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

import anyio
import anyio.lowlevel

ResultT = TypeVar("ResultT")

HURRY_SECONDS: Final = 10.0
"""Longer than an engine takes for anything that it comes to an end with."""


async def see_through(call: Awaitable[ResultT]) -> ResultT:
    """Wait for what a call comes to, even when that is cancelled: then for a while only.

    Raises what it raises. Cancelled, and not come to an end in time, it is broken off.
    """
    failed: Exception | None = None
    result = list[ResultT]()
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope(shield=True) as scope:
            tasks.start_soon(_hurry, scope)
            try:
                result.append(await call)
            except Exception as exc:  # noqa: BLE001 -- raised below, and not in a group
                failed = exc
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
    if not result:
        await anyio.lowlevel.checkpoint()
        raise AssertionError("broken off, and by nobody")
    return result[0]


async def _hurry(scope: anyio.CancelScope) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        scope.deadline = anyio.current_time() + HURRY_SECONDS
