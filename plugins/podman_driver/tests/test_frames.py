"""Two streams in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import BackendError, Chunk, Stream
from longshore_podman.frames import Frames

PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30)))


def framed(pieces: list[tuple[int, bytes]]) -> bytes:
    return b"".join(
        bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for kind, data in pieces
    )


@given(PIECES, st.integers(1, 9), st.integers(0, 100))
def test_every_byte_arrives_wherever_it_is_cut_and_from_any_offset(
    pieces: list[tuple[int, bytes]], cut: int, skip: int
) -> None:
    raw, frames = framed(pieces), Frames(skip=skip)
    chunks = [c for at in range(0, len(raw), cut) for c in frames.feed(raw[at : at + cut])]
    whole = b"".join(data for _, data in pieces)
    assert b"".join(chunk.data for chunk in chunks) == whole[skip:]
    position = min(skip, len(whole))
    for chunk in chunks:
        assert chunk.offset == position
        position += len(chunk.data)


def test_streams_are_told_apart() -> None:
    assert list(Frames().feed(framed([(1, b"a"), (2, b"b")]))) == [
        Chunk(Stream.STDOUT, 0, b"a"),
        Chunk(Stream.STDERR, 1, b"b"),
    ]


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(BackendError, match="cannot be taken apart"):
        list(Frames().feed(b"HTTP/1.1 200 OK"))
