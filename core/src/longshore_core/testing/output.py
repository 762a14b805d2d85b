"""What a model of a container has written, in pieces from a byte on."""

from __future__ import annotations

from collections.abc import Iterable

from longshore_core._model import Chunk, Stream


def chunks_from(output: Iterable[tuple[Stream, str]], offset: int) -> list[Chunk]:
    """The rest of what was written, beginning at byte `offset` of both streams together."""
    chunks, at = list[Chunk](), 0
    for stream, text in output:
        data = text.encode()
        skipped = min(max(offset - at, 0), len(data))
        if skipped < len(data):
            chunks.append(Chunk(stream, at + skipped, data[skipped:]))
        at += len(data)
    return chunks
