"""The routes under /api/v1/files for what is in files. Bodies stream from and to the disk."""

from __future__ import annotations

import errno
import os
import stat

from longshore_daemon.inside.durable import synchronize
from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.http import BadRequest, Span, parse_content_range, parse_range
from longshore_daemon.inside.loop import pause
from longshore_daemon.inside.paths import (
    Paths,
    discard,
    encoded,
    explain,
    is_directory,
    is_no_file,
    make_directories,
    mode_asked,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON

_PIECE = 262144
_LIST_AT_ONCE = 256
_SYNC_EVERY = 64 << 20
"""So many bytes are let come before they are waited for to be on the disk. Were all waited for at
the end, whoever is on the way to here might not wait as long."""


class FileRoutes:
    __slots__ = ("_paths",)

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    async def read(self, exchange: Exchange) -> None:
        """A file, or the part of it that a Range header asks for."""
        path = self._paths.asked(exchange)
        try:
            # Opening a pipe must not wait for who writes to it.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(self._paths.target(path), flags)
        except OSError as exc:
            raise explain(path, exc) from exc
        try:
            self._paths.check(descriptor, path)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise is_directory(path)
            if not stat.S_ISREG(status.st_mode):
                raise is_no_file(path)
            if status.st_size:
                await _send_file(exchange, descriptor, status)
            else:
                await _send_unsized(exchange, path, descriptor)
        finally:
            os.close(descriptor)

    async def write(self, exchange: Exchange) -> None:
        """Put the body in place of a file, at once when all of it is there and on the disk; or
        leave all as it was. With an offset, put it into the file, as it comes.

        Missing directories are made. A file that is replaced hands on its owner, and its mode if
        none is asked for. A mount point, as an engine makes of /etc/hosts, cannot be replaced: it
        is written to.
        """
        path, mode = self._paths.asked(exchange), mode_asked(exchange)
        target = os.path.realpath(self._paths.target(path))  # noqa: ASYNC240  # all disk is waited for
        span = _span(exchange)
        try:
            if span is None:
                await self._replace(exchange, path, target, mode)
            else:
                await self._write_at(exchange, path, target, span, mode)
        except OSError as exc:
            raise explain(path, exc) from exc
        await exchange.answer_nothing()

    async def _replace(self, exchange: Exchange, path: str, target: str, mode: int | None) -> None:
        temporary = f"{os.path.dirname(target)}/.longshore-{os.urandom(8).hex()}"
        before = _look(path, target)
        make_directories(os.path.dirname(target))
        # Nobody else reads what comes before its mode does.
        first_mode = 0o666 if mode is None and before is None else 0o600
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, first_mode)
        try:
            try:
                self._paths.check(descriptor, path)
                await _write_body(exchange, descriptor)
                if before is not None:
                    # The owner first: to change it takes some bits of the mode away.
                    _hand_over(descriptor, before)
                    mode = stat.S_IMODE(before.st_mode) if mode is None else mode
                if mode is not None:
                    os.fchmod(descriptor, mode)
                await synchronize(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.rename(temporary, target)
            except OSError as exc:
                if exc.errno != errno.EBUSY:
                    raise
                await self._pour(temporary, path, target, mode)
        finally:
            discard(temporary)

    async def _pour(self, source: str, path: str, target: str, mode: int | None) -> None:
        """Put a file into another, as it is: who reads that meanwhile sees some of each."""
        reading = os.open(source, os.O_RDONLY)
        try:
            writing = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                self._paths.check(writing, path)
                os.ftruncate(writing, 0)
                while os.sendfile(writing, reading, None, _PIECE):
                    await pause()
                if mode is not None:
                    os.fchmod(writing, mode)
                await synchronize(writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    async def _write_at(
        self, exchange: Exchange, path: str, target: str, span: Span, mode: int | None
    ) -> None:
        if _look(path, target) is None and not span.start:
            make_directories(os.path.dirname(target))
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | (0 if span.start else os.O_CREAT)
        descriptor = os.open(target, flags, 0o666)
        try:
            self._paths.check(descriptor, path)
            size = os.fstat(descriptor).st_size
            if span.start > size:
                told = (("Content-Range", f"bytes */{size}"),)
                message = f"{shown(path)} has {size} bytes: there would be a hole before the others"
                raise ApiError(409, "OFFSET_MISMATCH", message, headers=told)
            os.lseek(descriptor, span.start, os.SEEK_SET)
            position = span.start + await _write_body(exchange, descriptor)
            if span.end not in (None, position):
                raise ApiError(400, "BAD_REQUEST", "the body has another length than it said")
            if span.size == position:
                os.ftruncate(descriptor, position)
            if mode is not None:
                os.fchmod(descriptor, mode)
            await synchronize(descriptor)
        finally:
            os.close(descriptor)

    async def show_directory(self, exchange: Exchange) -> None:
        """Directories first, then by name. What links point to is not looked at."""
        path = self._paths.asked(exchange)
        try:
            with os.scandir(self._paths.target(path)) as found:
                entries: list[dict[str, JSON]] = []
                for entry in found:
                    entries.append(_entry(entry))
                    if not len(entries) % _LIST_AT_ONCE:
                        await pause()
        except NotADirectoryError as exc:
            message = f"Path is not a directory: {shown(path)}"
            raise ApiError(400, "NOT_A_DIRECTORY", message) from exc
        except OSError as exc:
            raise explain(path, exc) from exc
        entries.sort(key=lambda entry: (not entry["is_dir"], str(entry["name"]).encode()))
        listed: list[JSON] = [*entries]
        await exchange.answer(200, {"path": shown(path), "entries": listed})


async def _write_body(exchange: Exchange, descriptor: int) -> int:
    """How long it was."""
    length = unsynchronized = 0
    while data := await exchange.receive():
        _write_all(descriptor, data)
        length += len(data)
        unsynchronized += len(data)
        if unsynchronized >= _SYNC_EVERY:
            await synchronize(descriptor)
            unsynchronized = 0
    return length


def _tag(status: os.stat_result) -> str:
    """Another one when a file was replaced or written to."""
    return f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'


async def _send_file(exchange: Exchange, descriptor: int, status: os.stat_result) -> None:
    size, tag = status.st_size, _tag(status)
    headers = exchange.head.headers
    try:
        # Who has a part of another version gets the whole of this one.
        is_same = headers.get("if-range", tag) == tag
        span = parse_range(headers.get("range", "") if is_same else "", size)
    except BadRequest as exc:
        size_shown = (("Content-Range", f"bytes */{size}"),)
        raise ApiError(exc.status, exc.code, str(exc), headers=size_shown) from exc
    told = (("Accept-Ranges", "bytes"), ("ETag", tag))
    kind = "application/octet-stream"
    start, end = span or (0, size)
    if span is None:
        await exchange.open(200, kind, size, *told)
    else:
        part = ("Content-Range", f"bytes {start}-{end - 1}/{size}")
        await exchange.open(206, kind, end - start, *told, part)
    if exchange.wants_body:
        await exchange.stream.send_file(descriptor, start, end)


async def _send_unsized(exchange: Exchange, path: str, descriptor: int) -> None:
    """An empty file, or one of /proc and its like, which only seem to be empty."""
    try:
        data = os.read(descriptor, _PIECE)
        await exchange.open(200, "application/octet-stream", None if data else 0)
        if not exchange.wants_body or not data:
            return
        while data:
            await exchange.send(data)
            await pause()
            data = os.read(descriptor, _PIECE)
    except OSError as exc:
        raise explain(path, exc) from exc
    await exchange.close()


def _span(exchange: Exchange) -> Span | None:
    """The part of a file that the body is. Raises ApiError 400."""
    header = exchange.head.headers.get("content-range")
    if header is not None:
        return parse_content_range(header)
    offset = exchange.head.query.get("offset")
    if offset is None:
        return None
    if not offset.isascii() or not offset.isdigit() or len(offset) > 18:
        raise ApiError(400, "BAD_REQUEST", "offset: a number of bytes is wanted")
    return Span(int(offset))


def _look(path: str, target: str) -> os.stat_result | None:
    """What is to be written to, if there is something and it may be."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise is_directory(path)
    if not stat.S_ISREG(status.st_mode):
        raise is_no_file(path)
    return status


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _hand_over(descriptor: int, before: os.stat_result) -> None:
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    except PermissionError:
        return


def _entry(entry: os.DirEntry[str]) -> dict[str, JSON]:
    described: dict[str, JSON] = {
        "name": shown(entry.name),
        "is_dir": entry.is_dir(follow_symlinks=False),
        "size": None,
        "modified_at": None,
    }
    if (name := encoded(entry.name)) is not None:
        described["name_encoded"] = name
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return described
    described["size"] = None if described["is_dir"] else status.st_size
    described["modified_at"] = status.st_mtime_ns // 1_000_000
    return described
