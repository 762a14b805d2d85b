"""Awaiting a gRPC call: the one place where grpc's errors, and its cancellations, become ours."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import anyio.lowlevel
from grpc import aio

from longshore_core._errors import BackendError

AnswerT = TypeVar("AnswerT")


class CallFailed(BackendError):
    """A call to the server has failed. `status` is gRPC's name for how."""

    code = "SERVER_UNREACHABLE"
    retryable = True

    def __init__(self, status: str, details: str) -> None:
        super().__init__(f"{status}: {details}" if details else status)
        self.status = status


async def answer(call: aio.UnaryUnaryCall[Any, AnswerT]) -> AnswerT:
    """The answer to a call. Raises CallFailed."""
    try:
        return await call
    except aio.AioRpcError as exc:
        raise CallFailed(exc.code().name, exc.details() or "") from exc
    except asyncio.CancelledError as exc:
        # grpc raises one of its own in place of the one that arrived, and a cancel scope that does
        # not know it lets it through, which would end the whole task group without a word.
        call.cancel()
        await anyio.lowlevel.checkpoint_if_cancelled()
        raise CallFailed("CANCELLED", "the channel has gone") from exc
