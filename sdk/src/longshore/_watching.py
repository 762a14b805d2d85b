"""Watching files: what happens to them, as the daemon tells it."""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

from longshore._calls import Call, Opened, Patience
from longshore._carrier import CarryError
from longshore._deadline import check_deadline, deadline
from longshore._errors import SandboxError
from longshore._events import Event, EventReader, MalformedEvent
from longshore._files import route
from longshore._line import Ask, Line
from longshore._model import Change, ChangeKind, RemotePath

_KINDS: Final = frozenset(ChangeKind.__args__)  # type: ignore[attr-defined]  # a Literal, which has them


class Watch:
    """Changes, one by one. Cut off, it does not begin again: something would be missing."""

    def __init__(self, line: Line, path: RemotePath) -> None:
        self._line = line
        self._path = path
        self._call: Call | None = None
        self._opened: Opened | None = None
        self._reader = EventReader()
        self._events: deque[Event] = deque()
        self._is_over = False

    @classmethod
    async def open(cls, line: Line, path: RemotePath, recursive: bool) -> Watch:
        """Once it is watched."""
        watch = cls(line, path)
        query = "&recursive=true" if recursive else ""
        ask = Ask(
            method="GET",
            path=route("/files/watch", path) + query,
            phase="files.watch",
            live=True,
        )
        watch._call = await line.call(ask)
        watch._opened = await line.caller.open(watch._call)
        try:
            while (event := await watch._next_event()) is not None and event.name != "ready":
                continue
        except BaseException:
            await watch.close()
            raise
        return watch

    async def next(self, seconds: float | None = None) -> Change | None:
        """`None` when what is watched is there no more. Raises SandboxError."""
        if seconds is not None:
            with deadline(seconds):
                return await self._next()
        return await self._next()

    async def _next(self) -> Change | None:
        while (event := await self._next_event()) is not None:
            if event.name == "overflow":
                path = os.fsdecode(self._path)
                return Change(kind="overflow", path=path, is_dir=None, cookie=None)
            if event.name == "change":
                return self._change(event.data)
        return None

    async def close(self) -> None:
        """Idempotent."""
        self._is_over = True
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.stream.close()

    async def _next_event(self) -> Event | None:
        while not self._events:
            if self._is_over:
                return None
            check_deadline("files.watch", self._line.sandbox_id)
            await self._read()
        event = self._events.popleft()
        if event.name == "eof":
            await self.close()
            return None
        return event

    async def _read(self) -> None:
        assert self._opened is not None
        try:
            if not (piece := await self._opened.stream.read()):
                raise CarryError("it ended too early")
            self._events.extend(self._reader.feed(piece))
        except CarryError as exc:
            raise await self._failure(exc) from exc
        except MalformedEvent as exc:
            raise self._bad_answer(str(exc)) from exc

    async def _failure(self, exc: CarryError) -> Exception:
        assert self._opened is not None
        assert self._call is not None
        failure = self._line.caller.failure(self._call, self._opened.request_id, exc)
        failure.__cause__ = exc
        if failure.error.code == "DEADLINE_EXCEEDED":
            # Whoever waited had no more time; there may be somebody who has.
            return failure.error
        await self.close()
        await self._line.explain(failure, Patience())
        return failure.error

    def _change(self, data: str) -> Change:
        try:
            told: dict[str, Any] = json.loads(data)
            encoded = told.get("path_encoded")
            path = told["path"] if encoded is None else os.fsdecode(unquote_to_bytes(encoded))
            if told["kind"] not in _KINDS:
                raise ValueError(told["kind"])
            return Change(
                kind=cast("ChangeKind", told["kind"]),
                path=str(path),
                is_dir=told.get("is_dir"),
                cookie=told.get("cookie"),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise self._bad_answer(f"{data[:80]!r} is no change") from exc

    def _bad_answer(self, why: str) -> SandboxError:
        sandbox_id = self._line.sandbox_id
        return SandboxError("BAD_ANSWER", why, sandbox_id=sandbox_id, phase="files.watch")
