"""What a `Sandbox` gives away: its processes, and what they write."""

from __future__ import annotations

import signal as signals
from types import TracebackType
from typing import Self

from longshore._carrier import Source, finish
from longshore._errors import SandboxError, SandboxNotFoundError, SandboxTerminatedError
from longshore._following import Follower
from longshore._model import Chunk, ProcessInfo, Result
from longshore._session import Session


class Process:
    """A process in a sandbox, running or ended. As a context manager, it is killed at the end.

    Iterating over it gives what it writes from its beginning, and as it comes, until it has ended.
    """

    def __init__(self, session: Session, pid: int) -> None:
        self._session = session
        self._processes = session.processes
        self._line = session.line
        self._own: Output | None = None
        self.pid = pid

    def connect(self, *, offset: int = 0, follow: bool = True) -> Output:
        """Follow what it writes, from that byte of both streams together on.

        To go on where another reader was, begin at the `end` of the last chunk that it has read.
        Without `follow`, it ends after what has been written so far.
        """
        return Output(Follower(self._line, self.pid, offset=offset, live=follow))

    def wait(self, *, timeout: float | None = None) -> int:
        """Its exit code, once it has ended: minus the signal's number if one has ended it.

        Raises SandboxTimeoutError after so many seconds; the process goes on then.
        """
        return finish(self._processes.wait(self.pid, timeout))

    def result(self, *, max_output: int | None = None) -> Result:
        """All that it wrote and how it went, once it has ended."""
        return finish(self._processes.result(self.pid, max_output))

    def info(self) -> ProcessInfo:
        """How it is by now."""
        return finish(self._processes.info(self.pid))

    def write(self, data: Source | str) -> None:
        """Write to its input, until it has taken all. Raises StdinClosedError."""
        finish(self._processes.write(self.pid, data))

    def close_stdin(self) -> None:
        """Let it read the end of its input. Idempotent."""
        finish(self._processes.close_stdin(self.pid))

    def signal(self, number: int = signals.SIGTERM) -> None:
        """Send a signal to its process group. Raises ProcessNotFoundError when it has ended."""
        finish(self._processes.signal(self.pid, number))

    def kill(self) -> None:
        """Kill it, with all that it has started; one that has ended stays as it is."""
        finish(self._processes.kill(self.pid))

    def restart(self) -> Process:
        """End it if it runs, and start the same again: another process, with its own output.

        It is asked to end by SIGTERM, and killed after ten seconds.
        """
        return Process(self._session, finish(self._processes.restart(self.pid)).pid)

    def __iter__(self) -> Output:
        # A loop that was left early is over when the next one begins.
        if self._own is not None:
            self._own.close()
        self._own = self.connect()
        return self._own

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._own is not None:
            self._own.close()
        try:
            finish(self._processes.end(self.pid, error))
        except (SandboxTerminatedError, SandboxNotFoundError):
            # Its sandbox has ended, and it with that.
            return
        except SandboxError as exc:
            if error is None:
                raise
            error.add_note(f"and then: {exc}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pid} of {self._line.sandbox_id}>"


class Output:
    """What a process writes, chunk by chunk. Cut off, it goes on where it was, by itself."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    @property
    def offset(self) -> int:
        """How many bytes of both streams have come, or were skipped."""
        return self._follower.offset

    @property
    def exit_code(self) -> int | None:
        """Known at the end: when there are no more chunks, and there will be none."""
        end = self._follower.end
        return None if end is None else end.exit_code

    @property
    def output_lost(self) -> bool | None:
        """Known at the end: whether the sandbox's disk was full, so that the last of it is gone."""
        end = self._follower.end
        return None if end is None else end.output_lost

    def close(self) -> None:
        """Follow no longer; the process goes on. Idempotent."""
        finish(self._follower.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        chunk = finish(self._follower.next())
        if chunk is None:
            raise StopIteration
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
