"""What the engine can do with a container that runs: freeze it, measure it, read it, join it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, pidfd_send_signal
from typing import Any, Final

import anyio
import anyio.lowlevel
from longshore_core import BackendError, Chunk, Handle, Usage
from longshore_core.abc import Executor, LogStore, Meter, Pauser, Running

from longshore_docker.answers import Container
from longshore_docker.driver import DockerDriver, Edges
from longshore_docker.engine import Engine, Refused
from longshore_docker.streams import Attached, Streams

_END_SECONDS: Final = 5
_NUMBER_SECONDS: Final = 0.05
_FREEZES: Final = 5
"""Control groups of version 1 freeze what they hold by chance: runc tries for a while, thaws it
again, and fails (opencontainers/runc#2791)."""


@dataclass(frozen=True, slots=True)
class Freezer(Pauser):
    """By the engine's `pause`: the kernel's freezer, memory kept."""

    driver: DockerDriver
    engine: Engine

    async def pause(self, handle: Handle) -> None:
        container = await self.driver.running(handle)
        for attempt in range(_FREEZES):
            if container.status == "paused":
                return
            try:
                await self.engine.pause(container.id)
            except Refused:
                # Two may ask for the same at once, and the second is refused.
                container = await self.driver.running(handle)
                if attempt == _FREEZES - 1 and container.status != "paused":
                    raise
            else:
                return

    async def resume(self, handle: Handle) -> None:
        container = await self.driver.running(handle)
        if container.status == "paused":
            try:
                await self.engine.unpause(container.id)
            except Refused:
                now = await self.engine.inspect(container.id)
                if now is None or now.status != "running":
                    raise


@dataclass(frozen=True, slots=True)
class Counters(Meter):
    """By the engine's `stats`: one sample."""

    driver: DockerDriver
    engine: Engine

    async def usage(self, handle: Handle) -> Usage:
        container = await self.driver.running(handle)
        stats = await self.engine.stats(container.id)
        used = stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
        return Usage(
            cpu_seconds=None if used is None else used / 1e9,
            memory_bytes=stats.get("memory_stats", {}).get("usage"),
            pids=stats.get("pids_stats", {}).get("current"),
        )


@dataclass(frozen=True, slots=True)
class Logs(LogStore):
    """What the engine's log driver keeps: offsets count from the oldest byte that is left."""

    driver: DockerDriver
    streams: Streams

    @asynccontextmanager
    async def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[AsyncIterator[Chunk]]:
        container = await self.driver.known(handle)
        async with self.streams.logs(container.id, follow=follow) as chunks:
            yield from_offset(chunks, offset)


async def from_offset(chunks: AsyncIterator[Chunk], offset: int) -> AsyncIterator[Chunk]:
    """The part of them at and after `offset`."""
    async for chunk in chunks:
        skipped = max(0, offset - chunk.offset)
        if skipped < len(chunk.data):
            yield Chunk(chunk.stream, chunk.offset + skipped, chunk.data[skipped:])


@dataclass(frozen=True, slots=True)
class Processes(Executor):
    """By the engine's `exec`. Leaving one kills it, where the engine runs on this host."""

    driver: DockerDriver
    edges: Edges
    streams: Streams
    local: bool

    @asynccontextmanager
    async def run(
        self, handle: Handle, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None
    ) -> AsyncGenerator[Running]:
        container = await self.driver.running(handle)
        exec_id = await self.edges.engine.exec_create(container.id, argv, env, cwd)
        # Who was cancelled meanwhile has nothing to end yet.
        await anyio.lowlevel.checkpoint()
        try:
            async with self.streams.attached(exec_id) as attached:
                yield Process(self.edges, container.name, exec_id, attached)
        finally:
            if self.local:
                with anyio.move_on_after(_END_SECONDS, shield=True):
                    await self._end(container, exec_id)

    async def _end(self, container: Container, exec_id: str) -> None:
        with contextlib.suppress(BackendError):
            while is_alive(state := await self.edges.engine.exec_inspect(exec_id)):
                if state["Pid"]:
                    kill_member(container.id, state["Pid"])
                    break
                # It was asked for, and has not begun, or its number is not written down yet.
                await anyio.sleep(_NUMBER_SECONDS)


def is_alive(state: Mapping[str, Any]) -> bool:
    """Whether a process runs, or may do so yet: the engine is slow to begin when it is busy."""
    return state["Running"] or state["ExitCode"] is None


def kill_member(container_id: str, pid: int) -> None:
    """Kill a process of a container. Another one's, which has the number by now, or on this host
    where the engine's is another, is left alone."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        descriptor = os.pidfd_open(pid)
        try:
            # Its group bears the container's id; and it is still the one that was opened.
            if container_id in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"):
                pidfd_send_signal(descriptor, SIGKILL)
        finally:
            os.close(descriptor)


class Process(Running):
    """One that was started beside PID 1."""

    def __init__(self, edges: Edges, container: str, exec_id: str, attached: Attached) -> None:
        self._engine = edges.engine
        self._events = edges.events
        self._container = container
        self._id = exec_id
        self._attached = attached

    async def send(self, data: bytes) -> None:
        await self._attached.send(data)

    async def send_eof(self) -> None:
        self._attached.send_eof()

    def output(self) -> AsyncIterator[Chunk]:
        return self._attached.output()

    async def wait(self) -> int:
        with self._events.listening(self._container) as ear:
            while (state := await self._engine.exec_inspect(self._id))["Running"]:
                await ear.wait()
        if state["ExitCode"] is None:
            raise BackendError("the process has not been started")
        return int(state["ExitCode"])
