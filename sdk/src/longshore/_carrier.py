"""What the core needs of the world, twice implemented: by blocking, and by an event loop.

The core is written once, as coroutines that await nothing but the methods of a `Carrier`. Those of
the blocking one never suspend, so `finish` runs such a coroutine from start to end in one step.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
Source: TypeAlias = bytes | IO[bytes] | Iterable[bytes] | AsyncIterable[bytes]
"""Where the bytes of an upload come from. Only the carrier of an event loop takes async ones."""
Work: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
"""What is still to be begun."""


def source_of(data: Source | str | bytearray | memoryview) -> Source:
    """Text as UTF-8, and all that is bytes as bytes."""
    if isinstance(data, str):
        return data.encode()
    return bytes(data) if isinstance(data, bytearray | memoryview) else data


class CarryError(Exception):
    """A request or its answer did not come through."""

    def __init__(self, message: str, *, sent: bool = True, silent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        """False: nobody can have seen the request."""
        self.silent = silent
        """Nobody hung up, but nothing came for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, complete but for what the carrier itself adds. Headers may hold secrets."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Source | None = field(default=None, repr=False)
    silence_seconds: float = 65.0
    """How long nothing may come. A little more than the proxy's own, which explains itself."""


class Stream(Protocol):
    """An answer whose body comes in pieces. To be closed, whatever happens."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
        ...

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises CarryError."""
        ...

    async def close(self) -> None: ...


class Wire(Protocol):
    """A connection, for bytes both ways at once: one may send while another receives."""

    async def receive(self) -> bytes:
        """What has come; empty at the end. Raises CarryError."""
        ...

    async def send(self, take: Callable[[], bytes]) -> None:
        """What `take` gives when it is this sender's turn. Raises CarryError."""
        ...

    async def send_at_once(self, take: Callable[[], bytes]) -> None:
        """As `send`, of a few bytes. Nothing is taken when they would wait. Raises CarryError."""
        ...

    async def close(self) -> None:
        """Whoever receives or sends is told. Idempotent."""
        ...


class Pieces(Protocol):
    """What an upload has, piece by piece."""

    async def next(self) -> bytes:
        """The next one; empty at the end. Raises whatever its source does."""
        ...


class Carrier(Protocol):
    """Carries requests, waits, and does what blocks."""

    async def open(self, request: Request) -> Stream:
        """Send it, and wait for the head of its answer. Raises CarryError."""
        ...

    async def dial(self, url: str) -> Wire:
        """A connection to the host of a URL, by TLS if that says so. Raises CarryError."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def call(self, function: Callable[[], T]) -> T:
        """What `function` returns; it may block."""
        ...

    def pieces(self, source: Source) -> Pieces:
        """What it has, in pieces of a size that one request can carry if it is ours to choose."""
        ...

    async def both(
        self, main: Work[None], beside: Work[T], stop: Callable[[BaseException], Awaitable[None]]
    ) -> T:
        """Do both at once, and answer what the second does. Raises what either raises.

        Where the second cannot be cancelled, `stop` is given the error, to end what it waits for.
        """
        ...

    async def finally_do(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        """Do it even though the caller is being cancelled, but no longer than that."""
        ...

    async def close(self) -> None:
        """Let go of every connection. Idempotent."""
        ...


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of the core that was given a blocking carrier."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    work.close()
    raise RuntimeError("a blocking carrier has suspended")
