"""The worker's own network: a bridge, and namespaces that containers join.

Making a namespace takes a few milliseconds here, and a third of the start of a container when the
engine does it. Some are kept ready, closed and with their address; each serves one container, and
goes with it. They outlive the driver together with their containers, whose labels have their
numbers; those that no container has are swept by the next driver.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import anyio
from longshore_core import BackendError, CapacityExhausted

from longshore_podman.commands import PATH, run
from longshore_podman.firewall import Firewall, open_firewall
from longshore_podman.namespaces import (
    DIRECTORY,
    Namespace,
    Plan,
    bridging,
    free_numbers,
    inside,
    outside,
    undoing,
)

_TIDY_SECONDS: Final = 8.0
_RETRY_SECONDS: Final = 1.0
_LULL_SECONDS: Final = 0.3
"""Longer than a container takes to be made and started."""
_AT_ONCE: Final = 4
_ATTEMPTS: Final = 20
_INTERFACES: Final = Path("/sys/class/net")


class Networks:
    """One owner's namespaces. Raises BackendError."""

    def __init__(
        self,
        plan: Plan,
        ready: int,
        claimed: frozenset[int],
        firewall: Firewall,
        logger: logging.Logger,
    ) -> None:
        self._plan = plan
        self._firewall = firewall
        self._ready = deque[int]()
        self._size = ready
        self._logger = logger
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        self._claimed = set(claimed)
        """Numbers of namespaces that are being made, or are there; or were there, before the host
        was started again, and are still to be released."""
        self._stuck = set[int]()
        """Numbers of those that nobody has, and that could not be taken away yet."""
        self._last = 0
        self._taken = anyio.Event()
        self._taken_at = -math.inf

    def at(self, number: int) -> Namespace:
        return self._plan.at(number)

    async def prepare(self) -> None:
        """Make the bridge, closed. Idempotent."""
        for program in ("ip", "iptables"):
            if not shutil.which(program, path=PATH):
                raise BackendError(
                    f"the network {self._plan.bridge} needs the program {program}: install it, or "
                    "name a network of Podman's in driver.network"
                )
        if not (_INTERFACES / self._plan.bridge).exists():
            await run(["ip", "-force", "-batch", "-"], bridging(self._plan), check=False)
        if not (_INTERFACES / self._plan.bridge / "bridge").exists():
            raise BackendError(f"cannot make the bridge {self._plan.bridge}: is the worker root?")
        await self._firewall.close()

    async def sweep(self, used: Iterable[int]) -> None:
        """Take away what earlier drivers of this owner have left, except what is in use; again,
        for as long as anything of that is there."""
        self._claimed.update(used)
        while left := self._left():
            for number in left:
                await self._take_away(number)
            if self._left():
                await anyio.sleep(_RETRY_SECONDS)

    async def acquire(self) -> Namespace:
        """A namespace that nothing has ever run in."""
        self._taken_at = anyio.current_time()
        try:
            return self._plan.at(self._ready.popleft())
        except IndexError:
            return await self._make()
        finally:
            self._taken.set()

    async def release(self, number: int) -> None:
        """Take a namespace away. Idempotent. Raises BackendError when it is still there."""
        space = self._plan.at(number)
        done = await run(["ip", "-batch", "-"], undoing(space), check=False)
        if await anyio.Path(space.path).exists():
            what = f"cannot take network namespace {space.name} away"
            raise BackendError(f"{what}: {done.said}", retryable=True)
        self._claimed.discard(number)

    async def keep_ready(self) -> None:
        """Make namespaces ahead of their time. Never ends by itself."""
        while True:
            self._taken = anyio.Event()
            await self._lull()
            for number in tuple(self._stuck):
                await self._take_away(number)
            if len(self._ready) >= self._size:
                with anyio.move_on_after(_RETRY_SECONDS if self._stuck else math.inf):
                    await self._taken.wait()
                continue
            try:
                self._ready.append((await self._make()).number)
            except BackendError as exc:
                self._logger.warning("podman_network_not_ready", extra={"why": str(exc)})
                await anyio.sleep(_RETRY_SECONDS)

    async def _lull(self) -> None:
        """Wait until nobody makes a container, as long as some namespaces are left: what is done
        for the next ones would slow this one down. Who finds none makes one himself."""
        while len(self._ready) > self._size // 4:
            rest = self._taken_at + _LULL_SECONDS - anyio.current_time()
            if rest <= 0:
                break
            await anyio.sleep(rest)

    async def close(self) -> None:
        """Take away those that nobody has had."""
        self._stuck.update(self._ready)
        self._ready.clear()
        for number in tuple(self._stuck):
            await self._take_away(number)

    async def _make(self) -> Namespace:
        async with self._limiter:
            for number in self._free():
                if number in self._claimed:
                    continue  # by another call, while this one tried the numbers before it
                self._last = number
                space = self._plan.at(number)
                self._claimed.add(number)
                try:
                    await run(["ip", "-batch", "-"], outside(self._plan, space))
                    await run(["ip", "-n", space.name, "-batch", "-"], inside(self._plan, space))
                except BaseException as exc:
                    with anyio.CancelScope(shield=True):
                        await self._take_away(number)
                    # Another owner may have been quicker; whatever else it is, stays so.
                    if not (isinstance(exc, BackendError) and "File exists" in str(exc)):
                        raise
                else:
                    return space
        raise CapacityExhausted("addresses", requested=1, available=0)

    async def _take_away(self, number: int) -> None:
        """Release one that nobody waits for. Should it stay, this is tried again, and in the end
        the next worker's sweep finds it."""
        try:
            await self.release(number)
            self._stuck.discard(number)
        except BackendError as exc:
            self._stuck.add(number)
            self._logger.warning("podman_network_left", extra={"why": str(exc)})

    def _left(self) -> frozenset[int]:
        """Numbers of this owner's namespaces that nobody here knows of."""
        names = os.listdir(DIRECTORY) if DIRECTORY.is_dir() else []
        return self._plan.own(names) - self._claimed

    def _free(self) -> list[int]:
        free = free_numbers(self._plan, os.listdir(_INTERFACES), self._last)
        return list(islice((number for number in free if number not in self._claimed), _ATTEMPTS))


@asynccontextmanager
async def open_networks(
    plan: Plan,
    ready: int,
    logger: logging.Logger,
    *,
    host_access: bool,
    claimed: frozenset[int] = frozenset(),
) -> AsyncGenerator[Networks]:
    """The network, with its bridge up, closed, and namespaces ready. Whose number is `claimed` by
    somebody who is not there any more is made by nobody until it is released."""
    with open_firewall(plan, logger, host_access=host_access) as firewall:
        networks = Networks(plan, ready, claimed, firewall, logger)
        await networks.prepare()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(firewall.follow)
                tasks.start_soon(networks.keep_ready)
                try:
                    yield networks
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_TIDY_SECONDS, shield=True):
                await networks.close()
