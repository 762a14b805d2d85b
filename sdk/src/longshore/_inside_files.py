"""The files of a `Sandbox`, whole, in pieces and watched."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from longshore._carrier import Source, finish
from longshore._copying import Progress
from longshore._files import Download
from longshore._model import Change, FileInfo, FileStat, LocalPath, RemotePath
from longshore._session import Session
from longshore._watching import Watch


class Files:
    """The files of a sandbox. Paths that do not begin with `/` are in its own directory."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._remote = session.files

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

    def stat(self, path: RemotePath, *, follow: bool = True) -> FileStat:
        """What stands there; without `follow`, a link itself. Raises SandboxFileNotFoundError."""
        return finish(self._remote.stat(path, follow))

    def exists(self, path: RemotePath) -> bool:
        """Whether anything stands there; a link that leads nowhere does not."""
        return finish(self._remote.exists(path))

    def mkdir(self, path: RemotePath) -> None:
        """Make a directory, and those above it; one that is there is no error."""
        finish(self._remote.mkdir(path))

    def rename(self, path: RemotePath, target: RemotePath) -> None:
        """Move a file or directory; a file takes the place of another at once.

        Raises SandboxFileExistsError for a directory that is not empty.
        """
        finish(self._remote.rename(path, target))

    def chmod(self, path: RemotePath, mode: int) -> None:
        """Set the permission bits, such as `0o755`."""
        finish(self._remote.chmod(path, mode))

    def remove(self, path: RemotePath, *, recursive: bool = False) -> None:
        """Remove a file; a directory with all that is in it, if `recursive`.

        Raises SandboxFileNotFoundError, SandboxIsADirectoryError.
        """
        finish(self._remote.remove(path, recursive))

    def watch(self, path: RemotePath, *, recursive: bool = False) -> Changes:
        """What happens to a file or in a directory from now on; if `recursive`, also below."""
        return Changes(finish(Watch.open(self._session.line, path, recursive)))

    def upload(
        self, local: LocalPath, path: RemotePath, *, progress: Progress | None = None
    ) -> None:
        """Copy a file or a directory from here into the sandbox, of whatever size it is.

        With permission bits, and links as links. `progress` is called with how many bytes have
        passed since its last call, in any thread.
        """
        finish(self._session.copying.upload(local, path, progress or _ignored))

    def download(
        self, path: RemotePath, local: LocalPath, *, progress: Progress | None = None
    ) -> None:
        """Copy a file or a directory from the sandbox to here: each file as a whole, or not at all.

        As `upload`. Nothing is written outside of `local`, whatever the sandbox says.
        """
        finish(self._session.copying.download(path, local, progress or _ignored))


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


class Changes:
    """What happens to files that are watched, one by one, until what is watched is gone.

    Cut off, it raises SandboxConnectionError: what has happened meanwhile, nobody knows.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def next(self, *, timeout: float | None = None) -> Change | None:
        """The next one; `None` at the end. Raises SandboxTimeoutError after so many seconds."""
        return finish(self._watch.next(timeout))

    def close(self) -> None:
        """Watch no longer. Idempotent."""
        finish(self._watch.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        change = finish(self._watch.next())
        if change is None:
            raise StopIteration
        return change

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _ignored(size: int) -> None:
    del size
