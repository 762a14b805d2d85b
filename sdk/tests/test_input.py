"""What a process is given to read: back-pressure, sources that break, output meanwhile."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

import httpx
import longshore
import pytest

from sdk.tests.world import (
    ENDED_WELL,
    FOLLOW,
    RUN,
    START,
    STARTED,
    STARTED_WITH_INPUT,
    STDIN,
    Cut,
    World,
    complaint,
    frame,
)

FINE = httpx.Response(200, content=frame(1, b"out") + ENDED_WELL)
TAKEN = httpx.Response(204)


class Meeting:
    """Input that is taken only when the output is being read, which ends when all is written."""

    def __init__(self, world: World) -> None:
        self.followed, self.written = threading.Event(), threading.Event()
        world.on("POST", START, STARTED_WITH_INPUT)
        world.on("POST", STDIN, self.take)
        world.on("POST", f"{STDIN}/close", self.close)
        world.on("GET", FOLLOW, self.follow)
        world.on("DELETE", "/api/v1/processes/7", self.kill)

    def take(self, request: httpx.Request) -> httpx.Response:
        assert self.followed.wait(10), "nobody reads what it writes"
        return TAKEN

    def close(self, request: httpx.Request) -> httpx.Response:
        self.written.set()
        return TAKEN

    kill = close

    def follow(self, request: httpx.Request) -> httpx.Response:
        self.followed.set()
        assert self.written.wait(10), "it was neither given all its input nor killed"
        return FINE


@pytest.fixture
def world() -> World:
    return World()


def broken() -> Iterator[bytes]:
    yield b"a"
    raise ZeroDivisionError


async def broken_async() -> AsyncIterator[bytes]:
    yield b"a"
    raise ZeroDivisionError


def test_output_is_read_while_input_is_written(world: World) -> None:
    Meeting(world)
    assert world.attach().run("x", input=b"in").stdout == b"out"


async def test_output_is_read_while_input_is_written_also_by_awaiting(world: World) -> None:
    Meeting(world)
    async with await world.attach_async() as sandbox:
        assert (await sandbox.run("x", input=b"in")).stdout == b"out"


def test_a_command_whose_input_breaks_is_killed(world: World) -> None:
    Meeting(world)
    with pytest.raises(ZeroDivisionError):
        world.attach().run("x", input=broken())
    assert len(world.sent("DELETE", "/api/v1/processes/7")) == 1


async def test_a_command_whose_input_breaks_is_killed_also_by_awaiting(world: World) -> None:
    Meeting(world)
    async with await world.attach_async() as sandbox:
        with pytest.raises(ZeroDivisionError):
            await sandbox.run("x", input=broken_async())
    assert len(world.sent("DELETE", "/api/v1/processes/7")) == 1


def test_a_command_that_is_interrupted_is_killed(world: World) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    world.on("POST", RUN, httpx.Response(200, stream=Cut(STARTED)))
    world.on("GET", FOLLOW, interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.attach().run("x")
    assert len(world.sent("DELETE", "/api/v1/processes/7")) == 1


def test_input_that_is_taken_in_part_is_sent_on_from_there(world: World) -> None:
    def took(size: int) -> httpx.Response:
        return httpx.Response(202, json={"bytes_written": size})

    world.on("POST", STDIN, took(0), took(3), TAKEN)
    world.attach().process(7).write(b"abcdef")
    sent = world.sent("POST", STDIN)
    assert [one.content for one in sent] == [b"abcdef", b"abcdef", b"def"]
    assert {one.headers["Longshore-Partial-Input"] for one in sent} == {"yes"}


@pytest.mark.parametrize("size", [-1, 7, None, "3"])
def test_a_count_that_cannot_be_is_an_error(world: World, size: object) -> None:
    world.on("POST", STDIN, httpx.Response(202, json={"bytes_written": size}))
    with pytest.raises(longshore.SandboxError, match="no bytes_written that could be used"):
        world.attach().process(7).write(b"abcdef")


def test_input_is_sent_in_pieces_of_which_each_can_be_sent_again(world: World) -> None:
    data = bytes(range(256)) * 4000
    away = complaint(502, "CONNECTION_REFUSED", retryable=True)
    world.on("POST", STDIN, TAKEN, away, TAKEN)
    world.attach().process(7).write(iter([data, b"", b"end"]))
    sent = [one.content for one in world.sent("POST", STDIN)]
    assert max(map(len, sent)) <= 1 << 20
    assert sent[1] == sent[2]
    assert b"".join(sent[:1] + sent[2:]) == data + b"end"
