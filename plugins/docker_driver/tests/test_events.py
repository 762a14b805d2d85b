"""What is heard of the engine's events."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest
from longshore_core.address import UnixAddress
from longshore_docker.engine import Engine
from longshore_docker.events import Events
from longshore_docker.streams import Streams

from tests.engines.between import Exchange, between


def died(name: str, seconds: float) -> dict[str, object]:
    attributes = {"name": name, "exitCode": "3"}
    return {
        "Type": "container",
        "Action": "die",
        "timeNano": int(seconds * 1e9),
        "Actor": {"Attributes": attributes},
    }


@pytest.mark.parametrize("later", [1.999999, 0.5], ids=["two at once", "a clock set back"])
async def test_an_end_is_heard_whatever_was_heard_before_it(tmp_path: Path, later: float) -> None:
    async def engine(exchange: Exchange) -> None:
        if exchange.request == "GET /version":
            await exchange.answer({"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
            return
        await exchange.begin()
        await exchange.go_on(died("b", 2.0), died("a", later))
        await anyio.sleep_forever()

    async with between(tmp_path / "s", engine):
        door = Engine(UnixAddress(str(tmp_path / "s")), 10, logging.getLogger())
        streams = Streams(door)
        events = Events(streams)
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(10), events.listening("a") as a, events.listening("b") as b:
                tasks.start_soon(events.run)
                # Heard first is that the stream has begun.
                while a.exit_code is None or b.exit_code is None:
                    await (a if a.exit_code is None else b).wait()
            tasks.cancel_scope.cancel()
        await streams.aclose()
        door.close()
