"""Files and directories from here into a sandbox, and from there to here.

What comes out of a sandbox is not to be trusted: names that lead elsewhere are refused, and links
are made last, so that nothing is ever written through one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeAlias
from uuid import uuid4

from longshore._carrier import Carrier
from longshore._errors import SandboxError
from longshore._files import Download, RemoteFiles
from longshore._line import Line
from longshore._model import FileStat, LocalPath, RemotePath
from longshore._processes import Processes, Work

Progress: TypeAlias = Callable[[int], object]
"""Called with how many bytes have passed since the last call."""
_PIECE: Final = 256 << 10
_PERMISSIONS: Final = 0o777
_OWNER: Final = 0o700


class Copying:
    """Of one sandbox."""

    def __init__(self, line: Line, files: RemoteFiles, processes: Processes) -> None:
        self._line = line
        self._files = files
        self._processes = processes
        self._carrier: Carrier = line.carrier

    async def upload(self, local: LocalPath, path: RemotePath, progress: Progress) -> None:
        """A file, or a directory with all that is in it; links in there stay links."""
        source, target = Path(local), os.fsencode(path)
        if not await self._carrier.call(source.is_dir):
            await self._upload_file(source, target, progress)
            return
        locked = [await self._make_directory(source, target)]
        for found in await self._carrier.call(partial(_tree, source)):
            inside = os.path.join(target, os.fsencode(found.relative_to(source)))
            if found.is_symlink():
                await self._link(os.readlink(found), inside)
            elif found.is_dir():
                locked.append(await self._make_directory(found, inside))
            else:
                await self._upload_file(found, inside, progress)
        for directory, mode in filter(None, reversed(locked)):
            await self._files.chmod(directory, mode)

    async def _make_directory(self, local: Path, path: bytes) -> tuple[bytes, int] | None:
        """What is still to be done when all is in it, if nothing could be put into it then."""
        mode = await self._carrier.call(partial(_mode_of, local))
        await self._files.mkdir(path, mode | _OWNER)
        return None if mode & _OWNER == _OWNER else (path, mode)

    async def _upload_file(self, local: Path, path: bytes, progress: Progress) -> None:
        file: IO[bytes] = await self._carrier.call(lambda: local.open("rb"))
        try:
            mode = os.fstat(file.fileno()).st_mode & _PERMISSIONS
            await self._files.write(path, _counted(file, progress), mode)
        finally:
            await self._carrier.call(file.close)

    async def _link(self, target: str, path: bytes) -> None:
        # There is no call for it; what makes one is in every image that has a shell.
        command = ["ln", "-sfn", "--", target, os.fsdecode(path)]
        await self._processes.run(Work(command=command), None, check=True, max_output=None)

    async def download(self, path: RemotePath, local: LocalPath, progress: Progress) -> None:
        """A file in place of what is here, or a directory into the one that is here."""
        found = await self._files.stat(path, follow=True)
        if not found.is_dir:
            await self._download_file(path, found, Path(local), progress)
            return
        links = list[tuple[Path, str]]()
        locked = list[tuple[Path, int]]()
        waiting = [(os.fsencode(path), Path(local), found.mode & _PERMISSIONS)]
        while waiting:
            there, here, mode = waiting.pop()
            make = partial(_make_directory, here, mode | _OWNER, is_top=here == Path(local))
            if await self._carrier.call(make) and mode & _OWNER != _OWNER:
                locked.append((here, mode))
            for entry in await self._files.all(there):
                inside = os.path.join(there, os.fsencode(entry.name))
                target = here / self._checked(entry.name)
                found = await self._files.stat(inside, follow=False)
                if found.kind == "symlink":
                    links.append((target, found.target or ""))
                elif found.is_dir:
                    waiting.append((inside, target, found.mode & _PERMISSIONS))
                elif found.kind == "file":
                    await self._download_file(inside, found, target, progress)
        for target, leads_to in links:
            await self._carrier.call(partial(_make_link, target, leads_to))
        for directory, mode in reversed(locked):
            await self._carrier.call(partial(directory.chmod, mode))

    async def _download_file(
        self, path: RemotePath, found: FileStat, target: Path, progress: Progress
    ) -> None:
        """In place of the local file at once, when all of it has come."""
        carrier = self._carrier
        part = target.with_name(f".{target.name[:200]}.{uuid4().hex[:8]}.part")
        download = Download(self._line, path)
        try:
            piece = await download.next()
            file: IO[bytes] = await carrier.call(lambda: part.open("xb"))
            try:
                while piece:
                    await carrier.call(partial(file.write, piece))
                    progress(len(piece))
                    piece = await download.next()
                os.fchmod(file.fileno(), found.mode & _PERMISSIONS)
            finally:
                await carrier.call(file.close)
            await carrier.call(partial(os.replace, part, target))
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            await download.close()

    def _checked(self, name: str) -> str:
        """A name of one file in one directory, and nowhere else. Raises SandboxError."""
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            message = f"the sandbox has a file called {name!r}, which is no name"
            sandbox_id = self._line.sandbox_id
            raise SandboxError("BAD_ANSWER", message, sandbox_id=sandbox_id, phase="files.read")
        return name


def _tree(top: Path) -> list[Path]:
    """All that is in it, directories before what they contain. Sockets and their like are not."""
    found = list[Path]()
    for directory, directories, files in os.walk(top):
        directories.sort()
        inside = [Path(directory, name) for name in (*directories, *sorted(files))]
        found += [path for path in inside if path.is_symlink() or path.is_dir() or path.is_file()]
    return found


def _counted(file: IO[bytes], progress: Progress) -> Generator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
        progress(len(piece))


def _mode_of(path: Path) -> int:
    return path.stat().st_mode & _PERMISSIONS


def _make_directory(path: Path, mode: int, *, is_top: bool) -> bool:
    """Whether it was made: one that is there keeps its mode."""
    if path.is_symlink() and not is_top:
        # It may come from there, too, by an earlier copy.
        raise NotADirectoryError(errno.ENOTDIR, "is a link where a directory is to be", str(path))
    try:
        path.mkdir(mode)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    path.chmod(mode)
    return True


def _make_link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
