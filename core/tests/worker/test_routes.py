from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from longshore_core import ContainerId
from longshore_core._worker import routes
from longshore_core._worker.routes import SOCKET, RouteFeed
from longshore_core.testing.samples import LIVES, ORDER, container


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


@pytest.fixture
async def feed(tmp_path: Path):
    async with anyio.create_task_group() as tasks:
        routes = RouteFeed()
        await tasks.start(routes.serve, tmp_path)
        yield routes
        tasks.cancel_scope.cancel()


@pytest.fixture
def connect(tmp_path: Path):
    @asynccontextmanager
    async def connected() -> AsyncGenerator[Follower]:
        async with await anyio.connect_unix(tmp_path / SOCKET) as stream:
            yield Follower(stream)

    return connected


class Follower:
    def __init__(self, stream) -> None:
        self.stream = stream
        self.lines = BufferedByteReceiveStream(stream)

    async def next(self) -> dict:
        with anyio.fail_after(5):
            return json.loads(await self.lines.receive_until(b"\n", 1 << 20))

    async def ack(self, seq: object) -> None:
        await self.stream.send(json.dumps({"ack": seq}).encode() + b"\n")

    async def is_hung_up_on(self) -> bool:
        with anyio.fail_after(5):
            try:
                while True:
                    await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return True


def running(name: str = "c1"):
    order = replace(ORDER, id=ContainerId(name))
    return replace(container(LIVES[4]), order=order, token="t")


async def test_a_follower_gets_the_table_and_then_each_change_with_its_number(
    feed, connect
) -> None:
    feed.put(running())
    async with connect() as follower:
        table = await follower.next()
        assert (table["v"], table["seq"]) == (1, 1)
        assert [route["id"] for route in table["reset"]] == ["c1"]
        feed.put(running("c2"))
        feed.put(running("c2"))
        feed.drop(ContainerId("c1"))
        feed.drop(ContainerId("c1"))
        assert (await follower.next())["put"]["id"] == "c2"
        assert await follower.next() == {"seq": 3, "drop": "c1"}


async def test_changes_are_settled_once_each_follower_has_them(feed, connect) -> None:
    async with connect() as one, connect() as other:
        for follower in (one, other):
            await follower.ack((await follower.next())["seq"])
        feed.put(running())
        settled = anyio.Event()

        async def settle() -> None:
            await feed.settled()
            settled.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(settle)
            await one.ack((await one.next())["seq"])
            await anyio.wait_all_tasks_blocked()
            assert not settled.is_set()
            await other.ack((await other.next())["seq"])


async def test_a_follower_that_is_late_once_is_not_waited_for_until_it_answers(
    feed, connect, monkeypatch
) -> None:
    monkeypatch.setattr(routes, "ACK_SECONDS", 0.05)
    async with connect() as follower:
        await follower.next()
        feed.put(running())
        await feed.settled()
        monkeypatch.setattr(routes, "ACK_SECONDS", 60)
        feed.put(running("c2"))
        with anyio.fail_after(5):
            await feed.settled()
        await follower.ack(2)
        (peer,) = feed._peers
        with anyio.fail_after(5):
            while peer.late:
                await feed._acked.wait()
        feed.put(running("c3"))
        with anyio.move_on_after(0.05) as waits:
            await feed.settled()
        assert waits.cancelled_caught


async def test_a_follower_that_does_not_read_is_cut_off(feed, connect, monkeypatch) -> None:
    monkeypatch.setattr(routes, "BACKLOG", 100)
    async with connect() as slow:
        await slow.next()
        with anyio.fail_after(10):
            number = 0
            while feed.followers:
                number += 1
                feed.put(replace(running(), token=f"{number:01000}"))
                await anyio.sleep(0)
        assert await slow.is_hung_up_on()
    async with connect() as anew:
        assert (await anew.next())["seq"] == number


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\n", b"[]\n", b'{"ack": "1"}\n', b'{"ack": 99}\n', b'{"ack": Infinity}\n',
        b"[" * 4000 + b"\n", b"x" * 10_000, b'{"ack": null}\n', b"\xff\xfe\n",
    ],
)  # fmt: skip
async def test_whoever_speaks_something_else_is_hung_up_on_and_the_feed_lives(
    feed, connect, garbage: bytes
) -> None:
    async with connect() as stranger:
        await stranger.next()
        await stranger.stream.send(garbage)
        assert await stranger.is_hung_up_on()
    async with connect() as follower:
        await follower.ack((await follower.next())["seq"])
        feed.put(running())
        assert (await follower.next())["seq"] == 1


async def test_a_socket_of_an_earlier_worker_is_taken_over_and_is_private(tmp_path: Path) -> None:
    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            await tasks.start(RouteFeed().serve, tmp_path)
            assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o600
            tasks.cancel_scope.cancel()


async def test_nobody_is_waited_for_where_nobody_follows() -> None:
    feed = RouteFeed()
    feed.put(running())
    with anyio.fail_after(0.5):
        await feed.settled()


def test_a_route_never_leads_to_what_has_ended() -> None:
    for life in LIVES:
        route = routes.route_of(container(life))
        assert (route["status"] == "running") is (life.tag == "running")
        if life.tag in ("creating", "removing", "terminated"):
            assert route["dir"] is None
