"""Streams that the engine has made one of, taken apart again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import Chunk, Stream
from longshore_docker.inside import from_offset
from longshore_docker.streams import demultiplex

FRAMES = st.lists(st.tuples(st.sampled_from(list(Stream)), st.binary(max_size=50)), max_size=10)


def encoded(frames: list[tuple[Stream, bytes]]) -> bytes:
    kinds = {Stream.STDOUT: 1, Stream.STDERR: 2}
    return b"".join(
        bytes([kinds[stream], 0, 0, 0]) + len(data).to_bytes(4, "big") + data
        for stream, data in frames
    )


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def taken_apart(data: bytes, size: int) -> list[Chunk]:
    return [chunk async for chunk in demultiplex(pieces(data, size))]


@given(FRAMES, st.integers(min_value=1, max_value=64))
def test_every_byte_comes_out_where_it_belongs(
    frames: list[tuple[Stream, bytes]], size: int
) -> None:
    chunks = anyio.run(taken_apart, encoded(frames), size)
    assert [(chunk.stream, chunk.data) for chunk in chunks] == frames
    ends = [chunk.offset + len(chunk.data) for chunk in chunks]
    assert [chunk.offset for chunk in chunks] == [0, *ends[:-1]][: len(chunks)]


@given(FRAMES, st.integers(min_value=0, max_value=600))
def test_reading_on_from_an_offset_gives_the_rest(
    frames: list[tuple[Stream, bytes]], offset: int
) -> None:
    async def rest() -> bytes:
        chunks = from_offset(demultiplex(pieces(encoded(frames), 7)), offset)
        return b"".join([chunk.data async for chunk in chunks])

    assert anyio.run(rest) == b"".join(data for _, data in frames)[offset:]


def test_what_broke_off_in_a_frame_is_left_out() -> None:
    whole = encoded([(Stream.STDOUT, b"one"), (Stream.STDERR, b"two")])
    assert anyio.run(taken_apart, whole[:-1], 4) == [Chunk(Stream.STDOUT, 0, b"one")]
