from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from longshore_core._app import WorkerRun, run_worker
from longshore_core._settings import WorkerSettings

from tests.loops import ASYNCIO, Backend

StartWorker = Callable[..., AbstractAsyncContextManager[anyio.Event]]


@pytest.fixture
def anyio_backend() -> Backend:
    return ASYNCIO  # grpc.aio knows no other


@pytest.fixture
def start_worker(tmp_path: Path) -> StartWorker:
    """Run a worker with the null driver in this process; the event that it yields stops it."""

    @asynccontextmanager
    async def start(port: int, **settings: object) -> AsyncGenerator[anyio.Event]:
        stop = anyio.Event()

        async def stopped() -> str:
            await stop.wait()
            return "the test"

        document = {
            "driver": {"type": "null"},
            "guest": {"type": "bare"},
            "state_dir": str(tmp_path / "state"),
            "server_addr": f"http://127.0.0.1:{port}",
            "monitoring": {"port": 0, "listen_addr": "127.0.0.1"},
            "stop_grace_secs": 1,
            **settings,
        }
        run = WorkerRun(
            settings=WorkerSettings.model_validate(document),
            stop=stopped,
            with_proxy=False,
            expects_proxy=False,
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(run_worker, run)
            yield stop
            stop.set()

    return start
