"""`fork_exec` with programs beside PID 1: as its containers are the host's, so are these."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from signal import SIGKILL
from typing import Any

import anyio
import longshore_forkexec
from anyio.abc import ByteReceiveStream, ObjectSendStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream
from longshore_core import BackendError, Chunk, Handle, Host, Phase, Plug, Stream
from longshore_core.abc import Driver, Executor, Running, Runtime

PIECE = 1 << 16


@dataclass
class HostProcess(Running):
    process: Process
    chunks: MemoryObjectReceiveStream[Chunk]
    position: int = 0
    closed: bool = field(default=False)

    async def send(self, data: bytes) -> None:
        if self.closed or self.process.stdin is None:
            raise BackendError("its input has ended")
        try:
            await self.process.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise BackendError("it takes no more input") from exc

    async def send_eof(self) -> None:
        self.closed = True
        if self.process.stdin is not None:
            await self.process.stdin.aclose()

    async def output(self) -> AsyncIterator[Chunk]:
        async for chunk in self.chunks:
            yield chunk

    async def wait(self) -> int:
        code = await self.process.wait()
        return code if code >= 0 else 128 - code

    async def read(
        self, stream: Stream, source: ByteReceiveStream, sink: ObjectSendStream[Chunk]
    ) -> None:
        async with sink:
            async for data in source:
                at, self.position = self.position, self.position + len(data)
                await sink.send(Chunk(stream, at, data))


class HostExecutor(Executor):
    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    @asynccontextmanager
    async def run(
        self, handle: Handle, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None
    ) -> AsyncGenerator[Running]:
        found = [each for each in await self.driver.survey() if each.id == handle.id]
        if not found or found[0].phase is not Phase.RUNNING:
            raise BackendError(f"container {handle.id} does not run")
        async with self.attached(handle, argv, env, cwd) as running:
            yield running

    # What it is made of: a mutant changes one of these.

    def process_of(self, process: Process, chunks: MemoryObjectReceiveStream[Chunk]) -> HostProcess:
        return HostProcess(process, chunks)

    @asynccontextmanager
    async def attached(
        self, handle: Handle, argv: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> AsyncGenerator[HostProcess]:
        process = await self.started(argv, env, cwd)
        send, receive = anyio.create_memory_object_stream[Chunk](16)
        running = self.process_of(process, receive)
        try:
            async with anyio.create_task_group() as tasks, receive:
                for stream, source in (
                    (Stream.STDOUT, process.stdout),
                    (Stream.STDERR, process.stderr),
                ):
                    assert source is not None
                    tasks.start_soon(running.read, stream, source, send.clone())
                send.close()
                tasks.start_soon(self.follow, handle, process)
                yield running
                tasks.cancel_scope.cancel()
        finally:
            await self.end(process)

    async def started(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> Process:
        try:
            return await anyio.open_process(
                argv,
                env={"PATH": os.defpath, **env},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as exc:
            raise BackendError(f"cannot run {argv[0]}: {exc}") from exc

    async def follow(self, handle: Handle, process: Process) -> None:
        """It ends with its container."""
        with suppress(BackendError):
            await self.driver.wait(handle)
        self.kill(process)

    async def end(self, process: Process) -> None:
        self.kill(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()

    def kill(self, process: Process) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)


@asynccontextmanager
async def open_executing(config: Any, host: Host) -> AsyncGenerator[Runtime]:
    quiet = config.model_copy(update={"cgroup": "off"})
    async with longshore_forkexec.open_fork_exec(quiet, host) as runtime:
        yield replace(runtime, exec=HostExecutor(runtime.driver))


def driver() -> Plug[Any, Runtime]:
    return Plug(config=longshore_forkexec.Config, open=open_executing)
