"""Processes beside PID 1, started by the engine and connected to over its own connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread
from longshore_core import BackendError, Chunk, EngineUnavailable, Handle
from longshore_core.abc import Executor, Running

from longshore_podman.engine import Engine, Hijacked, Refusal
from longshore_podman.frames import Frames
from longshore_podman.lookup import Lookup
from longshore_podman.monitors import end_monitors, kill_monitored

_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 10.0
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.1


class PodmanExecutor(Executor):
    def __init__(self, engine: Engine, lookup: Lookup) -> None:
        self._engine = engine
        self._lookup = lookup

    @asynccontextmanager
    async def run(
        self, handle: Handle, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None
    ) -> AsyncGenerator[Running]:
        container = await self._lookup.running(handle)
        body = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Cmd": list(argv),
            "Env": [f"{name}={value}" for name, value in env.items()],
            **({"WorkingDir": cwd} if cwd else {}),
        }
        try:
            async with AsyncExitStack() as stack:
                # The engine starts it, whoever still waits for that; and then it has to be ended.
                with anyio.move_on_after(_START_SECONDS, shield=True) as late:
                    id_ = await self._engine.prepare_exec(container.id, body)
                    stack.push_async_callback(self._end, id_)
                    hijack = self._engine.hijack(f"/exec/{id_}/start")
                    connection = await stack.enter_async_context(hijack)
                if late.cancelled_caught:
                    raise EngineUnavailable(f"no program begins within {_START_SECONDS:g} s")
                await anyio.lowlevel.checkpoint()
                yield _Process(self._engine, id_, connection)
        except Refusal as exc:
            program = argv[0] if argv else ""
            raise BackendError(f"container {handle.id}: cannot run {program!r}: {exc}") from exc

    async def _end(self, id_: str) -> None:
        """Kill it, unless it has ended. The engine has no word for that."""
        with anyio.move_on_after(_END_SECONDS, shield=True):
            with suppress(BackendError):
                state = await self._engine.exec_state(id_)
                if state.is_running and state.pid:
                    kill_monitored(state.pid, id_)
                    await _until_ended(self._engine, id_)
            await anyio.to_thread.run_sync(end_monitors, id_)


async def _until_ended(engine: Engine, id_: str) -> int:
    """Its exit code."""
    pause = _FIRST_PAUSE
    while True:
        state = await engine.exec_state(id_)
        if not state.is_running:
            return state.code
        # Its end is an event that does not say whose.
        await anyio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


class _Process(Running):
    def __init__(self, engine: Engine, id_: str, connection: Hijacked) -> None:
        self._engine = engine
        self._id = id_
        self._connection = connection
        self._is_fed = False

    async def send(self, data: bytes) -> None:
        if self._is_fed:
            raise BackendError("the process's input is closed")
        await self._connection.send(data)

    async def send_eof(self) -> None:
        if not self._is_fed:
            self._is_fed = True
            self._connection.shut_writing()

    async def output(self) -> AsyncGenerator[Chunk]:
        frames = Frames()
        async for piece in self._connection.pieces():
            for chunk in frames.feed(piece):
                yield chunk

    async def wait(self) -> int:
        return await _until_ended(self._engine, self._id)
