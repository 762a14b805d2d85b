"""Where the bytes of an upload come from, piece by piece: by blocking, and by an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterable, Generator
from io import IOBase
from typing import IO, Final, cast

import anyio.to_thread

from longshore._carrier import Source

_PIECE: Final = 256 << 10


class BlockingPieces:
    """What `Carrier.pieces` gives to code that blocks."""

    def __init__(self, source: Source) -> None:
        self._pieces = pieces(source)

    async def next(self) -> bytes:
        return next(filter(None, self._pieces), b"")


class AsyncPieces:
    """What `Carrier.pieces` gives to code that awaits."""

    def __init__(self, source: Source) -> None:
        self._own = aiter(source) if isinstance(source, AsyncIterable) else None
        self._pieces = pieces(b"" if isinstance(source, AsyncIterable) else source)
        self._blocks = not isinstance(source, bytes)
        """On a disk, or on whatever a generator waits for."""

    async def next(self) -> bytes:
        if self._own is not None:
            async for piece in self._own:
                if piece:
                    return piece
            return b""
        found = filter(None, self._pieces)
        return (
            await anyio.to_thread.run_sync(next, found, b"") if self._blocks else next(found, b"")
        )


def pieces(source: Source) -> Generator[bytes]:
    if isinstance(source, AsyncIterable):
        raise TypeError("an AsyncSandbox takes async iterables; a Sandbox takes plain ones")
    if isinstance(source, bytes):
        yield from (source[start : start + _PIECE] for start in range(0, len(source), _PIECE))
    elif isinstance(source, IOBase) or hasattr(source, "read"):
        while piece := cast("IO[bytes]", source).read(_PIECE):
            yield piece
    else:
        yield from source
