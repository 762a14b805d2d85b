"""What a `Sandbox` gives away: its processes, its files, and both in pieces."""

from __future__ import annotations

import signal as signals
from types import TracebackType
from typing import Self

from longshore._carrier import Source, finish
from longshore._errors import SandboxError, SandboxNotFoundError, SandboxTerminatedError
from longshore._files import Download, RemoteFiles
from longshore._following import Follower
from longshore._model import (
    Chunk,
    FileInfo,
    LocalPath,
    ProcessInfo,
    RemotePath,
    Result,
)
from longshore._session import Session


class Process:
    """A process in a sandbox, running or ended. As a context manager, it is killed at the end.

    Iterating over it gives what it writes from its beginning, and as it comes, until it has ended.
    """

    def __init__(self, session: Session, pid: int) -> None:
        self._processes = session.processes
        self._line = session.line
        self._own: Output | None = None
        self.pid = pid

    def connect(self, *, offset: int = 0) -> Output:
        """Follow what it writes, from that byte of both streams together on.

        To go on where another reader was, begin at the `end` of the last chunk that it has read.
        """
        return Output(Follower(self._line, self.pid, offset=offset))

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
            finish(self._processes.end(self.pid))
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
        """Known at the end: when there are no more chunks."""
        end = self._follower.end
        return None if end is None else end.exit_code

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


class Files:
    """The files of a sandbox. Paths that do not begin with `/` are in its own directory."""

    def __init__(self, remote: RemoteFiles) -> None:
        self._remote = remote

    def read(self, path: RemotePath, *, offset: int = 0, length: int | None = None) -> bytes:
        """All of a file, or a part of it. Raises SandboxFileNotFoundError."""
        return finish(self._remote.read(path, offset, length))

    def stream(self, path: RemotePath, *, offset: int = 0) -> FileStream:
        """A file in pieces, of whatever size it is."""
        return FileStream(self._remote.stream(path, offset))

    def write(self, path: RemotePath, data: Source | str) -> None:
        """Put bytes in place of a file, at once when all have come; directories are made.

        Text is written as UTF-8. A file object or an iterable is sent as it is read, once.
        """
        finish(self._remote.write(path, data))

    def list(self, path: RemotePath = ".") -> tuple[FileInfo, ...]:
        """What is in a directory: directories first, then by name."""
        return finish(self._remote.all(path))

    def remove(self, path: RemotePath) -> None:
        """Remove a file. Raises SandboxFileNotFoundError, SandboxIsADirectoryError."""
        finish(self._remote.remove(path))

    def upload(self, local: LocalPath, path: RemotePath) -> None:
        """Copy a file from here into the sandbox, of whatever size it is."""
        finish(self._remote.upload(local, path))

    def download(self, path: RemotePath, local: LocalPath) -> None:
        """Copy a file from the sandbox to here: in place of what is there, or not at all."""
        finish(self._remote.download(path, local))


class FileStream:
    """The bytes of a file, piece by piece."""

    def __init__(self, download: Download) -> None:
        self._download = download

    @property
    def size(self) -> int | None:
        """Of the whole file, once the first piece has come."""
        return self._download.size

    @property
    def offset(self) -> int:
        """Where the next piece begins."""
        return self._download.offset

    def close(self) -> None:
        """Read no further. Idempotent."""
        finish(self._download.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = finish(self._download.next())
        if not piece:
            raise StopIteration
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
