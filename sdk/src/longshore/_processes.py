"""What is asked of a sandbox about processes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Final

from longshore._answers import process_info
from longshore._calls import Patience
from longshore._carrier import Source, source_of
from longshore._deadline import check_deadline, cleaning_up, remaining
from longshore._errors import (
    CommandError,
    SandboxError,
    SandboxNotFoundError,
    SandboxTerminatedError,
    StdinClosedError,
)
from longshore._following import NO_OUTPUT, Follower
from longshore._line import Ask, Line
from longshore._model import (
    DEFAULT_MAX_OUTPUT,
    Command,
    ProcessInfo,
    RemotePath,
    Result,
)
from longshore._server import CLEANUP_SECONDS

_SHORTEST_TIMEOUT_SECONDS: Final = 0.001
_MOST_INPUT: Final = 256 << 10
"""Of one request: so much is kept here until the process has taken it."""
_IN_PART: Final = 202
_LAST_TRY_SECONDS: Final = 0.3
_RESTART_SECONDS: Final = 30.0
"""The daemon asks for ten seconds, and then does not ask any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A command, and all that is to be known to start it."""

    command: Command
    env: Mapping[str, str] | None = None
    cwd: RemotePath | None = None
    timeout: float | None = None
    name: str | None = None

    def body(self) -> dict[str, Any]:
        """As the daemon wants it. Raises ValueError."""
        if isinstance(self.command, str):
            program, arguments = "/bin/sh", ["-c", self.command]
        else:
            program, *arguments = self.command or [""]
        if not program:
            raise ValueError("the command is empty")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout: seconds above 0 are wanted, not {self.timeout}")
        body: dict[str, Any] = {"command": program, "args": arguments}
        if self.env is not None:
            body["env"] = dict(self.env)
        if self.cwd is not None:
            body["working_dir"] = os.fsdecode(self.cwd)
        if self.name is not None:
            body["name"] = self.name
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    stdout: bytes
    stderr: bytes
    truncated: bool


class Processes:
    """The processes of one sandbox."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def run(
        self, work: Work, source: Source | str | None, check: bool, max_output: int | None
    ) -> Result:
        """To its end, with all that it writes. A deadline ends it in the sandbox as well."""
        began, left = monotonic(), remaining()
        check_deadline("run", self._line.sandbox_id)
        body = work.body()
        limit = min(left, math.inf if work.timeout is None else work.timeout)
        if limit < math.inf:
            body["timeout"] = max(limit, _SHORTEST_TIMEOUT_SECONDS)
        follower = Follower(self._line)
        try:
            collected = await self._all_of(follower, body, source, max_output)
        except BaseException as exc:
            await self._abandon(follower, exc)
            raise
        finally:
            await follower.close()
        result = self._result(work.command, follower, collected, began)
        if result.timed_out and (work.timeout is None or left < work.timeout):
            # It was not its own timeout, but that of whoever waits.
            check_deadline("run", self._line.sandbox_id)
        if check and not result.ok:
            raise CommandError.of(result, self._line.sandbox_id)
        return result

    async def _all_of(
        self,
        follower: Follower,
        body: dict[str, Any],
        source: Source | str | None,
        max_output: int | None,
    ) -> Collected:
        if source is None:
            await follower.start(body)
            return await _collect(follower, max_output)
        follower.pid = pid = (await self._start({**body, "stdin_mode": "pipe"}, "run")).pid
        # Not one after the other: what it writes while it reads may be more than a sandbox keeps.
        return await self._line.carrier.both(
            partial(self._feed, pid, source),
            partial(_collect, follower, max_output),
            partial(self._abandon, follower),
        )

    async def _feed(self, pid: int, source: Source | str) -> None:
        try:
            await self.write(pid, source)
            await self.close_stdin(pid)
        except StdinClosedError:
            # As with a pipe to `head`: it has read what it wanted.
            return

    async def _abandon(self, follower: Follower, error: BaseException) -> None:
        """Leave no command behind whose result nobody will have."""
        if isinstance(error, SandboxTerminatedError | SandboxNotFoundError):
            return
        code = error.code if isinstance(error, SandboxError) else ""
        if follower.pid is None or follower.end is not None or code == "DEADLINE_EXCEEDED":
            # A deadline is kept by the sandbox, too.
            return
        # Who has been silent for long is asked once more, and not waited for.
        seconds = _LAST_TRY_SECONDS if code == "TIMEOUT" else CLEANUP_SECONDS
        try:
            await self.end(follower.pid, error, seconds)
        except SandboxError as exc:
            error.add_note(f"and then: {exc}")

    def _result(
        self, command: Command, follower: Follower, collected: Collected, began: float
    ) -> Result:
        assert follower.pid is not None
        assert follower.end is not None
        return Result(
            command=command if isinstance(command, str) else tuple(command),
            pid=follower.pid,
            exit_code=follower.end.exit_code,
            timed_out=follower.end.timed_out,
            stdout=collected.stdout,
            stderr=collected.stderr,
            truncated=collected.truncated,
            duration=monotonic() - began,
        )

    async def result(self, pid: int, max_output: int | None) -> Result:
        """As of `run`, of a process that was started."""
        began, info = monotonic(), await self.info(pid)
        follower = Follower(self._line, pid)
        try:
            collected = await _collect(follower, max_output)
        finally:
            await follower.close()
        return self._result(info.command, follower, collected, began)

    async def start(self, work: Work, *, stdin: bool) -> ProcessInfo:
        body = {**work.body(), "stdin_mode": "pipe" if stdin else "closed"}
        if work.timeout is not None and work.timeout < math.inf:
            body["timeout"] = work.timeout
        return await self._start(body, "start")

    async def _start(self, body: Mapping[str, Any], phase: str) -> ProcessInfo:
        ask = Ask(
            method="POST",
            path="/processes",
            phase=phase,
            json=body,
            repeatable=False,
            keyed=True,
        )
        return process_info((await self._line.ask(ask)).fields())

    async def all(self) -> tuple[ProcessInfo, ...]:
        answer = await self._line.ask(Ask(method="GET", path="/processes", phase="processes"))
        return tuple(process_info(found) for found in answer.fields().objects("processes"))

    async def info(self, pid: int) -> ProcessInfo:
        ask = Ask(method="GET", path=f"/processes/{pid}", phase="process")
        return process_info((await self._line.ask(ask)).fields())

    async def wait(self, pid: int, seconds: float | None) -> int:
        """Its exit code. Raises SandboxTimeoutError; the process goes on then."""
        until = math.inf if seconds is None else monotonic() + seconds
        follower = Follower(self._line, pid, offset=NO_OUTPUT)
        try:
            while await follower.next(until) is not None:
                pass
        finally:
            await follower.close()
        assert follower.end is not None
        return follower.end.exit_code

    async def signal(self, pid: int, number: int) -> None:
        ask = Ask(
            method="POST",
            path=f"/processes/{pid}/signal",
            phase="signal",
            json={"signal": int(number)},
            repeatable=False,
        )
        await self._line.ask(ask)

    async def restart(self, pid: int) -> ProcessInfo:
        ask = Ask(
            method="POST",
            path=f"/processes/{pid}/restart",
            phase="restart",
            repeatable=False,
            keyed=True,
            silence_seconds=_RESTART_SECONDS,
        )
        return process_info((await self._line.ask(ask)).fields())

    async def kill(self, pid: int, patience: Patience | None = None) -> None:
        ask = Ask(method="DELETE", path=f"/processes/{pid}", phase="kill")
        await self._line.ask(ask, patience)

    async def end(
        self, pid: int, error: BaseException | None, seconds: float = CLEANUP_SECONDS
    ) -> None:
        """Kill it, even though a deadline has passed or the caller is being cancelled."""
        await self._line.carrier.finally_do(self._end(pid, error, seconds), seconds + 1)

    async def _end(self, pid: int, error: BaseException | None, seconds: float) -> None:
        with cleaning_up(seconds):
            await self.kill(pid, Patience.after(error))

    async def write(self, pid: int, source: Source | str) -> None:
        pieces = self._line.carrier.pieces(source_of(source))
        while piece := await pieces.next():
            for start in range(0, len(piece), _MOST_INPUT):
                await self._put(pid, bytes(piece[start : start + _MOST_INPUT]))

    async def _put(self, pid: int, data: bytes) -> None:
        """One piece, in as many requests as the process takes its time for."""
        while data:
            ask = Ask(
                method="POST",
                path=f"/processes/{pid}/stdin",
                phase="stdin",
                body=data,
                headers={
                    "Content-Type": "application/octet-stream",
                    "Longshore-Partial-Input": "yes",
                },
                repeatable=False,
            )
            answer = await self._line.ask(ask)
            if answer.status != _IN_PART:
                return
            # It has not read for a while, which is its right; connections do not wait for ever.
            data = data[answer.fields().count("bytes_written", len(data)) :]

    async def close_stdin(self, pid: int) -> None:
        path = f"/processes/{pid}/stdin/close"
        await self._line.ask(Ask(method="POST", path=path, phase="stdin"))


async def _collect(follower: Follower, max_output: int | None) -> Collected:
    """All that comes, but of each stream no more than the first so many bytes."""
    most = DEFAULT_MAX_OUTPUT if max_output is None else max_output
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    truncated = False
    while (chunk := await follower.next()) is not None:
        if chunk.missing:
            # What is kept has no holes.
            most, truncated = 0, True
        buffer = kept[chunk.stream]
        room = max(0, most - len(buffer))
        buffer += chunk.data[:room] if room < len(chunk.data) else chunk.data
        truncated = truncated or room < len(chunk.data)
    lost = follower.end is not None and follower.end.output_lost
    return Collected(
        stdout=bytes(kept["stdout"]), stderr=bytes(kept["stderr"]), truncated=truncated or lost
    )
