"""The worker's own network: a bridge, and namespaces that containers join.

Making a namespace takes a few milliseconds here, and a third of the start of a container when the
engine does it. Some are kept ready, closed and with their address; each serves one container, and
goes with it. They outlive the driver together with their containers, whose labels have their
numbers; those that no container has are swept by the next driver.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Final

import anyio
from longshore_core import BackendError, CapacityExhausted

from longshore_podman.namespaces import (
    DIRECTORY,
    Namespace,
    Plan,
    bridging,
    free_numbers,
    inside,
    outside,
    rules,
    undoing,
)

_COMMAND_SECONDS: Final = 10.0
_TIDY_SECONDS: Final = 8.0
_RETRY_SECONDS: Final = 1.0
_AT_ONCE: Final = 4
_ATTEMPTS: Final = 20
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_INTERFACES: Final = Path("/sys/class/net")


class Networks:
    """One owner's namespaces. Raises BackendError."""

    def __init__(self, plan: Plan, ready: int, logger: logging.Logger) -> None:
        self._plan = plan
        self._ready = deque[int]()
        self._size = ready
        self._logger = logger
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        self._claimed = set[int]()
        """Numbers of namespaces that are being made, or are there."""
        self._last = 0
        self._taken = anyio.Event()

    def at(self, number: int) -> Namespace:
        return self._plan.at(number)

    async def prepare(self) -> None:
        """Make the bridge, and the rules that connect it. Idempotent."""
        for program in ("ip", "iptables"):
            if not shutil.which(program, path=_PATH):
                raise BackendError(
                    f"the network {self._plan.bridge} needs the program {program}: install it, or "
                    "name a network of Podman's in driver.network"
                )
        if not (_INTERFACES / self._plan.bridge).exists():
            await _run(["ip", "-force", "-batch", "-"], bridging(self._plan), check=False)
        if not (_INTERFACES / self._plan.bridge / "bridge").exists():
            raise BackendError(f"cannot make the bridge {self._plan.bridge}: is the worker root?")
        for table, chain, rule in rules(self._plan):
            known = ["iptables", "-w", "-t", table, "-C", chain, *rule]
            if await _run(known, check=False):
                await _run(["iptables", "-w", "-t", table, "-I", chain, *rule])
        _FORWARDING.write_text("1")

    async def sweep(self, used: Iterable[int]) -> None:
        """Take away what earlier drivers of this owner have left, except what is in use."""
        self._claimed.update(used)
        names = os.listdir(DIRECTORY) if DIRECTORY.is_dir() else []
        for number in self._plan.own(names) - self._claimed:
            await self.release(number)

    async def acquire(self) -> Namespace:
        """A namespace that nothing has ever run in."""
        try:
            return self._plan.at(self._ready.popleft())
        except IndexError:
            return await self._make()
        finally:
            self._taken.set()

    async def release(self, number: int) -> None:
        """Take a namespace away. Idempotent."""
        space = self._plan.at(number)
        for pause in _PAUSES:
            await _run(["ip", "-batch", "-"], undoing(space), check=False)
            if not _is_there(space):
                break
            # Busy: whatever the host started a moment ago may still hold a copy of all mounts.
            await anyio.sleep(pause)
        else:
            self._logger.warning("podman_network_left", extra={"namespace": space.name})
        self._claimed.discard(number)

    async def keep_ready(self) -> None:
        """Make namespaces ahead of their time. Never ends by itself."""
        while True:
            self._taken = anyio.Event()
            if len(self._ready) >= self._size:
                await self._taken.wait()
                continue
            try:
                self._ready.append((await self._make()).number)
            except BackendError as exc:
                self._logger.warning("podman_network_not_ready", extra={"why": str(exc)})
                await anyio.sleep(_RETRY_SECONDS)

    async def close(self) -> None:
        """Take away those that nobody has had."""
        while self._ready:
            await self.release(self._ready.popleft())

    async def _make(self) -> Namespace:
        async with self._limiter:
            for number in self._free():
                if number in self._claimed:
                    continue  # by another call, while this one tried the numbers before it
                self._last = number
                space = self._plan.at(number)
                self._claimed.add(number)
                try:
                    await _run(["ip", "-batch", "-"], outside(self._plan, space))
                    await _run(["ip", "-n", space.name, "-batch", "-"], inside(self._plan, space))
                except BaseException as exc:
                    with anyio.CancelScope(shield=True):
                        await self.release(number)
                    # Another owner may have been quicker; whatever else it is, stays so.
                    if not (isinstance(exc, BackendError) and "File exists" in str(exc)):
                        raise
                else:
                    return space
        raise CapacityExhausted("addresses", requested=1, available=0)

    def _free(self) -> list[int]:
        free = free_numbers(self._plan, os.listdir(_INTERFACES), self._last)
        return list(islice((number for number in free if number not in self._claimed), _ATTEMPTS))


@asynccontextmanager
async def open_networks(plan: Plan, ready: int, logger: logging.Logger) -> AsyncGenerator[Networks]:
    """The network, with its bridge up. Whoever has it keeps it ready, if it wants that."""
    networks = Networks(plan, ready, logger)
    await networks.prepare()
    try:
        yield networks
    finally:
        with anyio.move_on_after(_TIDY_SECONDS, shield=True):
            await networks.close()


def _is_there(space: Namespace) -> bool:
    return Path(space.path).exists()


_PAUSES: Final = (0.01, 0.05, 0.2, 0.5, 1.0)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def _run(command: Sequence[str], lines: Sequence[str] = (), *, check: bool = True) -> int:
    """Run a program of the host's, with lines to read. Raises BackendError with what it says."""
    environment = {"PATH": _PATH, "LC_ALL": "C"}
    try:
        # A file, not a pipe: a program that fails at the first line does not read the others.
        with anyio.fail_after(_COMMAND_SECONDS), tempfile.TemporaryFile() as given:
            given.write("".join(f"{line}\n" for line in lines).encode())
            given.seek(0)
            done = await anyio.run_process(
                command, stdin=given, stdout=PIPE, stderr=STDOUT, check=False, env=environment
            )
    except TimeoutError as exc:
        raise BackendError(f"{command[0]} takes too long", retryable=True) from exc
    except OSError as exc:
        raise BackendError(f"cannot run {command[0]}: {exc}") from exc
    if check and done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise BackendError(f"{' '.join(command[:3])} failed: {said}", retryable=True)
    return done.returncode
