"""Downloads that are cut: they go on, or fail for good, and never end before they are over."""

from __future__ import annotations

import httpx
import longshore
import pytest
from longshore import SandboxError

from sdk.tests.world import ENDED, Cut, World, complaint

FILE = "/api/v1/files"
TAG = {"ETag": '"one"'}


@pytest.fixture
def world() -> World:
    return World()


def cut(status: int, *pieces: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={**TAG, **headers}, stream=Cut(*pieces))


def rest(content: bytes, span: str) -> httpx.Response:
    return httpx.Response(206, headers={**TAG, "Content-Range": span}, content=content)


def read(world: World, offset: int = 0) -> bytes:
    with world.attach().files.stream("f", offset=offset) as pieces:
        return b"".join(pieces)


def test_a_download_that_is_cut_goes_on_where_it_was(world: World) -> None:
    again = cut(206, b"cd", **{"Content-Range": "bytes 2-5/6"})
    world.on("GET", FILE, cut(200, b"a", b"b"), again, rest(b"ef", "bytes 4-5/6"))
    assert read(world) == b"abcdef"
    sent = [
        (one.headers.get("Range"), one.headers.get("If-Range")) for one in world.sent("GET", FILE)
    ]
    assert sent == [(None, None), ("bytes=2-", '"one"'), ("bytes=4-", '"one"')]


async def test_a_download_that_is_cut_goes_on_also_by_awaiting(world: World) -> None:
    world.on("GET", FILE, cut(200, b"ab"), rest(b"cd", "bytes 2-3/4"))
    async with await world.attach_async() as sandbox, sandbox.files.stream("f") as pieces:
        assert b"".join([piece async for piece in pieces]) == b"abcd"


def test_a_download_that_is_cut_before_it_has_begun_begins_again(world: World) -> None:
    world.on("GET", FILE, cut(206), rest(b"cd", "bytes 2-3/4"))
    assert read(world, offset=2) == b"cd"


def test_a_download_that_is_cut_at_its_very_end_is_complete(world: World) -> None:
    world.on("GET", FILE, cut(200, b"ab"), complaint(416, "RANGE_NOT_SATISFIABLE"))
    assert read(world) == b"ab"


def test_of_two_versions_nobody_gets_some_of_each(world: World) -> None:
    world.on("GET", FILE, cut(200, b"ab"), httpx.Response(200, content=b"AB"))
    with world.attach().files.stream("f") as pieces:
        assert next(pieces) == b"ab"
        for _ in range(2):
            with pytest.raises(SandboxError, match="was changed while") as caught:
                next(pieces)
            assert caught.value.code == "FILE_CHANGED"


def test_what_cannot_go_on_fails_for_good_and_does_not_end(world: World) -> None:
    world.on("GET", FILE, httpx.Response(200, stream=Cut(b"ab")))
    with world.attach().files.stream("f") as pieces:
        assert next(pieces) == b"ab"
        for _ in range(2):
            with pytest.raises(longshore.SandboxConnectionError, match="was cut"):
                next(pieces)
    assert len(world.sent("GET", FILE)) == 1


def test_a_download_from_a_sandbox_that_has_ended_says_so(world: World) -> None:
    world.on("GET", FILE, cut(200, b"ab"))
    with world.attach().files.stream("f") as pieces:
        assert next(pieces) == b"ab"
        world.info = ENDED
        for _ in range(2):
            with pytest.raises(longshore.SandboxTerminatedError):
                next(pieces)
