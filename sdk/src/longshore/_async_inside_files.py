"""The files of an `AsyncSandbox`, whole, in pieces and watched."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from longshore._carrier import Source
from longshore._copying import Progress
from longshore._files import Download
from longshore._model import Change, FileInfo, FileStat, LocalPath, RemotePath
from longshore._opening import Opening
from longshore._session import Session
from longshore._watching import Watch


class AsyncFiles:
    """The files of a sandbox. Paths that do not begin with `/` are in its own directory."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._remote = session.files

    async def read(self, path: RemotePath, *, offset: int = 0, length: int | None = None) -> bytes:
        """All of a file, or a part of it. Raises SandboxFileNotFoundError."""
        return await self._remote.read(path, offset, length)

    def stream(self, path: RemotePath, *, offset: int = 0) -> AsyncFileStream:
        """A file in pieces, of whatever size it is."""
        return AsyncFileStream(self._remote.stream(path, offset))

    async def write(self, path: RemotePath, data: Source | str) -> None:
        """Put bytes in place of a file, at once when all have come; directories are made.

        Text is written as UTF-8. A file object or an iterable is sent as it is read, once.
        """
        await self._remote.write(path, data)

    async def list(self, path: RemotePath = ".") -> tuple[FileInfo, ...]:
        """What is in a directory: directories first, then by name."""
        return await self._remote.all(path)

    async def stat(self, path: RemotePath, *, follow: bool = True) -> FileStat:
        """What stands there; without `follow`, a link itself. Raises SandboxFileNotFoundError."""
        return await self._remote.stat(path, follow)

    async def exists(self, path: RemotePath) -> bool:
        """Whether anything stands there; a link that leads nowhere does not."""
        return await self._remote.exists(path)

    async def mkdir(self, path: RemotePath) -> None:
        """Make a directory, and those above it; one that is there is no error."""
        await self._remote.mkdir(path)

    async def rename(self, path: RemotePath, target: RemotePath) -> None:
        """Move a file or directory; a file takes the place of another at once.

        Raises SandboxFileExistsError for a directory that is not empty.
        """
        await self._remote.rename(path, target)

    async def chmod(self, path: RemotePath, mode: int) -> None:
        """Set the permission bits, such as `0o755`."""
        await self._remote.chmod(path, mode)

    async def remove(self, path: RemotePath, *, recursive: bool = False) -> None:
        """Remove a file; a directory with all that is in it, if `recursive`.

        Raises SandboxFileNotFoundError, SandboxIsADirectoryError.
        """
        await self._remote.remove(path, recursive)

    def watch(self, path: RemotePath, *, recursive: bool = False) -> Opening[AsyncChanges]:
        """What happens to a file or in a directory from now on; if `recursive`, also below."""

        async def opened() -> AsyncChanges:
            return AsyncChanges(await Watch.open(self._session.line, path, recursive))

        return Opening(opened)

    async def upload(
        self, local: LocalPath, path: RemotePath, *, progress: Progress | None = None
    ) -> None:
        """Copy a file or a directory from here into the sandbox, of whatever size it is.

        With permission bits, and links as links. `progress` is called with how many bytes have
        passed since its last call, in any thread.
        """
        await self._session.copying.upload(local, path, progress or _ignored)

    async def download(
        self, path: RemotePath, local: LocalPath, *, progress: Progress | None = None
    ) -> None:
        """Copy a file or a directory from the sandbox to here: each file as a whole, or not at all.

        As `upload`. Nothing is written outside of `local`, whatever the sandbox says.
        """
        await self._session.copying.download(path, local, progress or _ignored)


class AsyncFileStream:
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

    async def close(self) -> None:
        """Read no further. Idempotent."""
        await self._download.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._download.next()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncChanges:
    """What happens to files that are watched, one by one, until what is watched is gone.

    Cut off, it raises SandboxConnectionError: what has happened meanwhile, nobody knows.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def next(self, *, timeout: float | None = None) -> Change | None:  # noqa: ASYNC109  # as in `_inside_files`
        """The next one; `None` at the end. Raises SandboxTimeoutError after so many seconds."""
        return await self._watch.next(timeout)

    async def close(self) -> None:
        """Watch no longer. Idempotent."""
        await self._watch.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        change = await self._watch.next()
        if change is None:
            raise StopAsyncIteration
        return change

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _ignored(size: int) -> None:
    del size
