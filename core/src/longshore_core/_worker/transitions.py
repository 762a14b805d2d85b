"""Telling observers how containers change, without ever waiting for one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from longshore_core._model import ContainerId, Gap, Transition

BACKLOG: Final = 1024
"""Transitions that an observer may lag behind before it loses the oldest."""


class _Subscription:
    def __init__(self, backlog: int) -> None:
        self._pending: deque[Transition] = deque(maxlen=backlog)
        self._expected: int | None = None
        self._arrived = anyio.Event()

    def push(self, transition: Transition) -> None:
        if self._expected is None:
            self._expected = transition.seq
        self._pending.append(transition)
        self._arrived.set()

    def __aiter__(self) -> AsyncIterator[Transition | Gap]:
        return self

    async def __anext__(self) -> Transition | Gap:
        while not self._pending:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        expected, head = self._expected, self._pending[0]
        if expected is not None and head.seq > expected:
            self._expected = head.seq
            return Gap(first=expected, last=head.seq - 1)
        self._expected = head.seq + 1
        return self._pending.popleft()


class Transitions:
    """Numbers each transition and hands it to every subscription."""

    def __init__(self, backlog: int = BACKLOG) -> None:
        self._backlog = backlog
        self._seq = 0
        self._subscriptions: set[_Subscription] = set()

    def publish(self, container: ContainerId, before: str, after: str, reason: str) -> None:
        """Tell all observers. Never blocks: a slow one loses its oldest, and is told so."""
        self._seq += 1
        transition = Transition(
            seq=self._seq, container=container, before=before, after=after, reason=reason
        )
        for subscription in self._subscriptions:
            subscription.push(transition)

    @asynccontextmanager
    async def subscribe(self) -> AsyncGenerator[AsyncIterator[Transition | Gap]]:
        """Transitions from now on, without an end; what was missed arrives as a `Gap`."""
        subscription = _Subscription(self._backlog)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
