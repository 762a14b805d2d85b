"""Following a process: what it writes, in order and without a hole, until it has ended.

A follower that is cut off begins again at the next byte. It gives up, within two seconds and with
the reason, when there is nobody to begin again with.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, cast

from longshore._calls import Call, Opened, Patience
from longshore._carrier import CarryError
from longshore._deadline import check_deadline, remaining
from longshore._errors import SandboxError, SandboxTimeoutError
from longshore._frames import EVENT, STREAMS, Frame, FrameReader, MalformedFrame
from longshore._line import Ask, Line
from longshore._model import Chunk, StreamName

NO_OUTPUT: Final = 10**17
"""An offset beyond all that anything will ever write."""
_SILENCE_SECONDS: Final = 15.0
"""The daemon says something every five."""
_SLACK_SECONDS: Final = 0.05
_FOREVER_SECONDS: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a process has ended."""

    exit_code: int
    timed_out: bool
    output_lost: bool
    """The sandbox had no room to keep all that it wrote: the last of it is gone."""


class Follower:
    """Reads one process from an offset on. `pid` is known once it has started."""

    def __init__(
        self, line: Line, pid: int | None = None, *, offset: int = 0, live: bool = True
    ) -> None:
        self.pid = pid
        self.offset: int = offset
        self.end: End | None = None
        self._line = line
        self._live = live
        """Whether to wait for what is still to come."""
        self._phase = "run" if pid is None else "follow"
        self._call: Call | None = None
        self._opened: Opened | None = None
        self._opened_until = math.inf
        self._reader = FrameReader()
        self._ready: deque[Frame] = deque()
        self._missing = 0
        """How many bytes nobody has any more, of those that would come next."""
        self._is_over = False
        """The daemon has said that this answer ends before the process does."""
        self._patience = Patience()

    async def start(self, body: Mapping[str, Any]) -> None:
        """Start the process that is to be followed, bound by its own timeout."""
        ask = Ask(
            method="POST",
            path="/processes/frames",
            phase=self._phase,
            json=body,
            repeatable=False,
            keyed=True,
            silence_seconds=_SILENCE_SECONDS,
        )
        self._opened_until = monotonic() + remaining()
        call = await self._line.call(ask)
        await self._open(call)
        while self.pid is None:
            if self._opened is None:
                # Asked for by the same key, it is the same process.
                await self._open(call)
            await self._read()
            self._take_events()

    async def next(self, until: float = math.inf) -> Chunk | None:
        """The next piece; `None` when the process has ended, which `end` then tells of.

        When it is not to be waited for, `None` also after what there was.

        Raises SandboxTimeoutError at `until`, on the monotonic clock.
        """
        while True:
            self._take_events()
            if self._ready:
                return self._chunk(self._ready.popleft())
            if self.end is not None or (self._is_over and not self._live):
                await self._finish()
                return None
            await self._advance(min(until, monotonic() + remaining()))

    async def _finish(self) -> None:
        """Read the end of the answer, too: then its connection can carry the next one."""
        if self._opened is not None:
            with suppress(CarryError):
                while await self._opened.stream.read():
                    continue
        await self.close()

    async def close(self) -> None:
        """Follow no longer. The process goes on. Idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.stream.close()

    def _chunk(self, frame: Frame) -> Chunk:
        stream = cast("StreamName", STREAMS[frame.kind])
        missing, self._missing = self._missing, 0
        chunk = Chunk(stream=stream, data=frame.data, offset=self.offset, missing=missing)
        self.offset = chunk.end
        return chunk

    def _take_events(self) -> None:
        while self._ready and self._ready[0].kind == EVENT:
            data = self._ready.popleft().data
            try:
                if data:
                    self._take(json.loads(data))
            except (ValueError, TypeError, KeyError) as exc:
                raise self._bad_answer(f"{data[:80]!r} is no event") from exc

    def _take(self, event: Mapping[str, Any]) -> None:
        signal, code = event.get("signal"), event.get("exit_code")
        if "started_at" in event:
            self.pid = int(event["pid"])
        elif "gap" in event:
            past = max(self.offset, int(event["gap"]["to"]))
            self._missing += past - self.offset
            self.offset = past
        elif event.get("more"):
            self._is_over = True
        elif signal is not None or code is not None:
            exit_code = -int(signal) if signal is not None else int(code or 0)
            self.end = End(
                exit_code=exit_code,
                timed_out=bool(event.get("timed_out")),
                output_lost=bool(event.get("output_lost")),
            )

    async def _advance(self, until: float) -> None:
        """Get more: from the answer that there is, or from a new one."""
        if self._is_over or until < self._opened_until - _SLACK_SECONDS:
            # Its time was up, or it was opened when there was more of it.
            await self.close()
        if self._opened is None:
            await self._reopen(until)
        await self._read()

    async def _reopen(self, until: float) -> None:
        check_deadline(self._phase, self._line.sandbox_id)
        seconds = until - monotonic()
        if seconds <= 0:
            raise SandboxTimeoutError(
                "TIMEOUT",
                f"process {self.pid} still runs",
                retryable=True,
                sandbox_id=self._line.sandbox_id,
                phase=self._phase,
            )
        self._opened_until = until
        if not self._live:
            seconds = 0.0
        limit = f"&seconds={seconds:.3f}" if seconds < _FOREVER_SECONDS else ""
        path = f"/processes/{self.pid}/frames?offset={self.offset}{limit}"
        ask = Ask(method="GET", path=path, phase=self._phase, silence_seconds=_SILENCE_SECONDS)
        await self._open(await self._line.call(ask))

    async def _open(self, call: Call) -> None:
        self._reader, self._is_over = FrameReader(), False
        self._call = call
        self._opened = await self._line.caller.open(call, self._patience)

    async def _read(self) -> None:
        assert self._opened is not None
        try:
            piece = await self._opened.stream.read()
        except CarryError as exc:
            await self._recover(exc)
            return
        if not piece:
            await self._recover(CarryError("it ended too early"))
            return
        try:
            self._ready.extend(self._reader.feed(piece))
        except MalformedFrame as exc:
            await self.close()
            raise self._bad_answer(str(exc)) from exc
        if self.pid is not None:
            # Before that, each answer begins anew: what it brings is no progress.
            self._patience = Patience()

    async def _recover(self, exc: CarryError) -> None:
        """Be ready to begin again, unless there is a better reason than patience not to."""
        assert self._opened is not None
        assert self._call is not None
        request_id = self._opened.request_id
        await self.close()
        failure = self._line.caller.failure(self._call, request_id, exc)
        failure.__cause__ = failure.error.__cause__ = exc
        await self._line.explain(failure, self._patience)
        may_begin_again = True
        if self.pid is None:
            # Whether it has been started, nobody can tell: another try might start it twice.
            failure.error.retryable = False
            self._patience.unclear = True
            # Who has waited for long enough does not begin anew.
            may_begin_again = self._line.caller.may_repeat(self._call) and not exc.silent
        if not may_begin_again or not await self._patience.wait(self._line.carrier):
            raise failure.error

    def _bad_answer(self, why: str) -> SandboxError:
        return SandboxError("BAD_ANSWER", why, sandbox_id=self._line.sandbox_id, phase=self._phase)
