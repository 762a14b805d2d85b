"""What can be awaited, or entered with `async with` without awaiting it first."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar


class _Closing(Protocol):
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


OpenedT = TypeVar("OpenedT", bound=_Closing)


class Opening(Generic[OpenedT]):
    """Something that is still to be opened: `x = await …`, or `async with … as x:`."""

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, OpenedT]]) -> None:
        self._open_it = open_it
        self._opened: OpenedT | None = None

    def __await__(self) -> Generator[Any, Any, OpenedT]:
        return self._open_it().__await__()

    async def __aenter__(self) -> OpenedT:
        self._opened = await self._open_it()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(kind, error, traceback)
