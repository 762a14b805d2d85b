"""What is asked of a sandbox about files."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import quote

from longshore._answers import file_info, file_stat
from longshore._calls import Failure, Opened, Patience
from longshore._carrier import CarryError, Source, source_of
from longshore._deadline import check_deadline
from longshore._errors import SandboxError, SandboxFileNotFoundError
from longshore._line import Ask, Line
from longshore._model import FileInfo, FileStat, RemotePath

_PARTIAL: Final = 206
_BEYOND: Final = "RANGE_NOT_SATISFIABLE"
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class Download:
    """A file on its way here, piece by piece. Cut off, it goes on where it was, by itself.

    Only if it is still the same file, though: of two versions, nobody gets some of each.
    """

    def __init__(self, line: Line, path: RemotePath, *, offset: int = 0) -> None:
        self.offset: int = offset
        """Where the next piece begins."""
        self.size: int | None = None
        """Of the whole file, once the first piece has come; unknown for what has none, as /proc."""
        self._line = line
        self._path = path
        self._begin = offset
        self._tag = ""
        """Of the version that is being read; empty when there is none to know it by."""
        self._opened: Opened | None = None
        self._done = False
        self._error: SandboxError | None = None
        self._before = 0
        """How many bytes are still to come that are not wanted."""
        self._patience = Patience()

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises SandboxError, from then on always the same."""
        if self._error is not None:
            raise self._error
        try:
            return await self._next()
        except SandboxError as exc:
            self._error = exc
            await self.close()
            raise

    async def _next(self) -> bytes:
        while not self._done:
            check_deadline("files.read", self._line.sandbox_id)
            if self._opened is None:
                await self._open()
            piece = await self._read()
            skipped = min(self._before, len(piece))
            self._before -= skipped
            if skipped < len(piece):
                self.offset += len(piece) - skipped
                return piece[skipped:]
        return b""

    async def _read(self) -> bytes:
        """Nothing as well when there is nothing yet."""
        if self._opened is None:
            return b""
        try:
            piece = await self._opened.stream.read()
        except CarryError as exc:
            await self._recover(exc)
            return b""
        if not piece:
            await self.close()
        self._patience = Patience()
        return piece

    async def close(self) -> None:
        """Idempotent."""
        self._done = True
        await self._hang_up()

    async def _hang_up(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.stream.close()

    async def _open(self) -> None:
        ask = _get(self._path, self.offset, None, self._tag)
        try:
            opened = self._opened = await self._line.open(ask, self._patience)
        except SandboxError as exc:
            if exc.code == _BEYOND:
                self._done = True
                return
            raise
        headers, is_part = opened.stream.headers, opened.stream.status == _PARTIAL
        if self.offset > self._begin and not is_part:
            raise SandboxError(
                "FILE_CHANGED",
                "the file was changed while it was being read",
                request_id=opened.request_id,
                sandbox_id=self._line.sandbox_id,
                phase="files.read",
            )
        # What is no file on a disk comes whole, whatever is asked for.
        self._before = 0 if is_part else self.offset
        self._tag = headers.get("etag", "")
        text = headers.get("content-range", "").rpartition("/")[2]
        text = text or headers.get("content-length", "")
        self.size = int(text) if text.isdecimal() else None

    async def _recover(self, exc: CarryError) -> None:
        """Be ready to begin again, if that is possible. Raises SandboxError."""
        opened = self._opened
        assert opened is not None
        await self._hang_up()
        call = await self._line.call(_get(self._path, self.offset, None, self._tag))
        failure: Failure = self._line.caller.failure(call, opened.request_id, exc)
        failure.__cause__ = failure.error.__cause__ = exc
        await self._line.explain(failure, self._patience)
        if not self._tag or not await self._patience.wait(self._line.carrier):
            raise failure.error


class RemoteFiles:
    """The files of one sandbox."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def read(self, path: RemotePath, offset: int, length: int | None) -> bytes:
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"no bytes are at {offset}, {length} of them")
        if length == 0:
            return b""
        try:
            answer = await self._line.ask(_get(path, offset, length))
        except SandboxError as exc:
            if exc.code == _BEYOND:
                return b""
            raise
        if answer.status == _PARTIAL:
            return answer.body
        # What is no file on a disk comes whole, whatever is asked for.
        return answer.body[offset : None if length is None else offset + length]

    def stream(self, path: RemotePath, offset: int) -> Download:
        return Download(self._line, path, offset=offset)

    async def write(self, path: RemotePath, source: Source | str, mode: int | None = None) -> None:
        ask = Ask(
            method="PUT",
            path=route("/files", path) + _with_mode(mode),
            phase="files.write",
            body=source_of(source),
            headers=_OCTETS,
        )
        await self._line.ask(ask)

    async def remove(self, path: RemotePath, recursive: bool) -> None:
        # Not to be repeated: that it is not there would be told of one that we have removed.
        query = "&recursive=true" if recursive else ""
        ask = Ask(
            method="DELETE",
            path=route("/files", path) + query,
            phase="files.remove",
            repeatable=False,
        )
        await self._line.ask(ask)

    async def all(self, path: RemotePath) -> tuple[FileInfo, ...]:
        ask = Ask(method="GET", path=route("/files/list", path), phase="files.list")
        fields = (await self._line.ask(ask)).fields()
        return tuple(file_info(found) for found in fields.objects("entries"))

    async def stat(self, path: RemotePath, follow: bool) -> FileStat:
        query = "&follow=true" if follow else ""
        ask = Ask(method="GET", path=route("/files/stat", path) + query, phase="files.stat")
        return file_stat((await self._line.ask(ask)).fields())

    async def exists(self, path: RemotePath) -> bool:
        try:
            await self.stat(path, follow=True)
        except SandboxFileNotFoundError:
            return False
        return True

    async def mkdir(self, path: RemotePath, mode: int | None = None) -> None:
        """The mode is for one that is not there yet."""
        path = route("/files/mkdir", path) + _with_mode(mode)
        await self._line.ask(Ask(method="POST", path=path, phase="files.mkdir"))

    async def rename(self, path: RemotePath, target: RemotePath) -> None:
        # Not to be repeated, as with remove. In the query, since names need not be text.
        there = f"from={_quoted(path)}&to={_quoted(target)}"
        ask = Ask(
            method="POST",
            path=f"/files/rename?{there}",
            phase="files.rename",
            repeatable=False,
        )
        await self._line.ask(ask)

    async def chmod(self, path: RemotePath, mode: int) -> None:
        if not 0 <= mode <= 0o7777:
            raise ValueError(f"a mode is a number such as 0o755, not {mode!r}")
        ask = Ask(
            method="POST",
            path=route("/files/chmod", path),
            phase="files.chmod",
            json={"mode": f"{mode:04o}"},
        )
        await self._line.ask(ask)


def _get(path: RemotePath, offset: int, length: int | None, tag: str = "") -> Ask:
    """With a tag, only the file that has it is given in part."""
    headers: dict[str, str] = {}
    if offset or length is not None:
        last = "" if length is None else str(offset + length - 1)
        headers["Range"] = f"bytes={offset}-{last}"
        if tag:
            headers["If-Range"] = tag
    return Ask(method="GET", path=route("/files", path), phase="files.read", headers=headers)


def route(path: str, file: RemotePath) -> str:
    """A route that is about one file."""
    return f"{path}?path={_quoted(file)}"


def _with_mode(mode: int | None) -> str:
    return "" if mode is None else f"&mode={mode:04o}"


def _quoted(path: RemotePath) -> str:
    return quote(os.fsencode(path), safe="/")
