"""Accepting connections for as long as the worker lives, whatever becomes of one of them."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Final, cast

import anyio
import structlog
from anyio.abc import Listener, SocketStream

PAUSE_SECONDS: Final = 0.2
_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)
"""What a host that is short of something answers to `accept`: it may have it again in a moment."""

log = structlog.stdlib.get_logger("longshore_core.worker")


async def serve(
    listener: Listener[SocketStream], handler: Callable[[SocketStream], Awaitable[None]]
) -> None:
    """Hand each connection to `handler`, until cancelled.

    A shortage of descriptors or memory is waited out: a port that only watches must not be what
    ends the worker. `handler` deals with its own connection's errors.
    """
    async with anyio.create_task_group() as handlers:
        while True:
            try:
                await listener.serve(handler, handlers)
            except* (OSError, anyio.BrokenResourceError) as group:
                if not _passes(group):
                    raise
                log.warning("Cannot accept connections for now", why=repr(group.exceptions[0]))
                await anyio.sleep(PAUSE_SECONDS)


def _passes(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        return all(_passes(member) for member in group.exceptions)
    shortage = exc if isinstance(exc, OSError) else exc.__cause__
    return isinstance(shortage, OSError) and shortage.errno in _PASSING
