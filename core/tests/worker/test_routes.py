from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
from longshore_core._worker.routes import SOCKET, RouteFeed


async def test_a_state_directory_may_have_a_longer_path_than_a_socket(tmp_path: Path) -> None:
    place = tmp_path / ("d" * 120)
    place.mkdir()
    async with anyio.create_task_group() as tasks:
        await tasks.start(RouteFeed(awaited=False).serve, place)
        assert [entry.name for entry in place.iterdir()] == [SOCKET]
        short = os.open(place, os.O_PATH)
        async with await anyio.connect_unix(f"/proc/self/fd/{short}/{SOCKET}") as stream:
            assert json.loads(await stream.receive())["reset"] == []
            tasks.cancel_scope.cancel()
    os.close(short)
