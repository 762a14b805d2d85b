"""Time, as laws let it pass: the world's, or a model's own, which passes when it is told to."""

from __future__ import annotations

import heapq
import itertools
import time
from typing import Protocol, runtime_checkable

import anyio
from anyio.lowlevel import checkpoint


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since some moment; never runs backwards."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Return when so much time has passed."""
        ...


@runtime_checkable
class Clocked(Protocol):
    """What opens a model: a `Runtime` whose time is moved by whoever tests it."""

    @property
    def clock(self) -> Clock: ...


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    async def pass_time(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class VirtualClock:
    """Stands still until `pass_time`, which wakes all sleepers whose time has come, in order."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, anyio.Event]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """For what lives by this clock."""
        if seconds <= 0:
            await checkpoint()
            return
        woken = anyio.Event()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), woken))
        await woken.wait()

    async def pass_time(self, seconds: float) -> None:
        until = self._now + seconds
        # What was just started may be about to fall asleep.
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self._now, _, woken = heapq.heappop(self._sleepers)
            woken.set()
            await self._settle()
        self._now = until

    async def _settle(self) -> None:
        for _ in range(20):
            await checkpoint()
