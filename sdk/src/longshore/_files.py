"""What is asked of a sandbox about files."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote
from uuid import uuid4

from longshore._answers import file_info
from longshore._calls import Failure, Opened, Patience
from longshore._carrier import CarryError, Source, source_of
from longshore._deadline import check_deadline
from longshore._errors import SandboxError
from longshore._line import Ask, Line
from longshore._model import FileInfo, LocalPath, RemotePath

_PARTIAL: Final = 206
_BEYOND: Final = "RANGE_NOT_SATISFIABLE"
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class Download:
    """A file on its way here, piece by piece."""

    def __init__(self, line: Line, path: RemotePath, *, offset: int = 0) -> None:
        self.offset: int = offset
        """Where the next piece begins."""
        self.size: int | None = None
        """Of the whole file, once the first piece has come; unknown for what has none, as /proc."""
        self._line = line
        self._path = path
        self._opened: Opened | None = None
        self._done = False
        self._before = 0
        """How many bytes are still to come that are not wanted."""

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises SandboxError."""
        if self._done:
            return b""
        check_deadline("files.read", self._line.sandbox_id)
        if self._opened is None:
            await self._open()
        while piece := await self._read():
            skipped = min(self._before, len(piece))
            self._before -= skipped
            if skipped < len(piece):
                self.offset += len(piece) - skipped
                return piece[skipped:]
        await self.close()
        return b""

    async def _read(self) -> bytes:
        if self._opened is None:
            return b""
        try:
            return await self._opened.stream.read()
        except CarryError as exc:
            raise await self._failure(exc) from exc

    async def close(self) -> None:
        """Idempotent."""
        self._done = True
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.stream.close()

    async def _open(self) -> None:
        try:
            self._opened = opened = await self._line.open(_get(self._path, self.offset, None))
        except SandboxError as exc:
            if exc.code == _BEYOND:
                return
            raise
        if opened.stream.status != _PARTIAL:
            # What is no file on a disk comes whole, whatever is asked for.
            self._before = self.offset
        whole = opened.stream.headers.get("content-range", "").rpartition("/")[2]
        length = opened.stream.headers.get("content-length", "")
        text = whole or length
        self.size = int(text) if text.isdecimal() else None

    async def _failure(self, exc: CarryError) -> Exception:
        opened = self._opened
        assert opened is not None
        await self.close()
        call = await self._line.call(_get(self._path, self.offset, None))
        failure: Failure = self._line.caller.failure(call, opened.request_id, exc)
        failure.__cause__ = exc
        await self._line.explain(failure, Patience())
        return failure.error


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

    async def write(self, path: RemotePath, source: Source | str) -> None:
        ask = Ask(
            method="PUT",
            path=_path("/files", path),
            phase="files.write",
            body=source_of(source),
            headers=_OCTETS,
        )
        await self._line.ask(ask)

    async def remove(self, path: RemotePath) -> None:
        # Not to be repeated: that it is not there would be told of one that we have removed.
        ask = Ask(
            method="DELETE", path=_path("/files", path), phase="files.remove", repeatable=False
        )
        await self._line.ask(ask)

    async def all(self, path: RemotePath) -> tuple[FileInfo, ...]:
        ask = Ask(method="GET", path=_path("/files/list", path), phase="files.list")
        fields = (await self._line.ask(ask)).fields()
        return tuple(file_info(found) for found in fields.objects("entries"))

    async def upload(self, local: LocalPath, path: RemotePath) -> None:
        carrier = self._line.carrier
        file: IO[bytes] = await carrier.call(lambda: open(local, "rb"))  # noqa: SIM115
        try:
            await self.write(path, file)
        finally:
            await carrier.call(file.close)

    async def download(self, path: RemotePath, local: LocalPath) -> None:
        """In place of the local file at once, when all of it has come."""
        carrier, target = self._line.carrier, Path(local)
        partial_file = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
        download = Download(self._line, path)
        piece = await download.next()
        try:
            file: IO[bytes] = await carrier.call(lambda: open(partial_file, "xb"))  # noqa: SIM115
            try:
                while piece:
                    await carrier.call(_writing(file, piece))
                    piece = await download.next()
            finally:
                await carrier.call(file.close)
            await carrier.call(partial(os.replace, partial_file, target))
        except BaseException:
            partial_file.unlink(missing_ok=True)
            raise
        finally:
            await download.close()


def _writing(file: IO[bytes], piece: bytes) -> Callable[[], int]:
    return partial(file.write, piece)


def _get(path: RemotePath, offset: int, length: int | None) -> Ask:
    headers: dict[str, str] = {}
    if offset or length is not None:
        last = "" if length is None else str(offset + length - 1)
        headers["Range"] = f"bytes={offset}-{last}"
    return Ask(method="GET", path=_path("/files", path), phase="files.read", headers=headers)


def _path(route: str, path: RemotePath) -> str:
    return f"{route}?path={quote(os.fsencode(path), safe='/')}"
