"""The routes under /api/v1/files. Bodies stream from and to the disk."""

from __future__ import annotations

import errno
import os
import stat

from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.http import BadRequest, parse_range
from longshore_daemon.inside.loop import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON

_PIECE = 262144
_ANSWERS = {
    errno.ENOENT: (404, "NOT_FOUND"),
    errno.ENOTDIR: (400, "NOT_A_DIRECTORY"),
    errno.EISDIR: (400, "IS_DIRECTORY"),
    errno.ENAMETOOLONG: (400, "BAD_REQUEST"),
    errno.ELOOP: (400, "BAD_REQUEST"),
    errno.EACCES: (403, "PERMISSION_DENIED"),
    errno.EPERM: (403, "PERMISSION_DENIED"),
    errno.EROFS: (403, "PERMISSION_DENIED"),
    errno.ENOSPC: (507, "DISK_FULL"),
    errno.EDQUOT: (507, "DISK_FULL"),
}


def _path(exchange: Exchange) -> str:
    """The path that is asked for; relative ones are taken from the daemon's own directory."""
    path = exchange.head.query.get("path", "")
    if not path or "\0" in path:
        raise ApiError(400, "BAD_REQUEST", "path: the path of a file is wanted")
    if ".." in path.split("/"):
        raise ApiError(403, "PATH_TRAVERSAL", "Path traversal detected: '..' is not allowed")
    return path


def _explain(path: str, exc: OSError) -> ApiError:
    status, code = _ANSWERS.get(exc.errno or 0, (500, "INTERNAL_ERROR"))
    if code == "NOT_FOUND":
        return ApiError(status, code, f"File not found: {_shown(path)}")
    return ApiError(status, code, f"{_shown(path)}: {exc.strerror}")


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_directory(path: str) -> ApiError:
    message = (
        f"Path is a directory, not a file: {_shown(path)}. "
        "Use /api/v1/files/list to list directory contents."
    )
    return ApiError(400, "IS_DIRECTORY", message)


async def read(exchange: Exchange) -> None:
    """A file, or the part of it that a Range header asks for."""
    path = _path(exchange)
    try:
        # Opening a pipe must not wait for who writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as exc:
        raise _explain(path, exc) from exc
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise _is_directory(path)
        if not stat.S_ISREG(status.st_mode):
            raise ApiError(400, "NOT_A_FILE", f"Path is not a regular file: {_shown(path)}")
        if status.st_size:
            await _send_file(exchange, descriptor, status.st_size)
        else:
            await _send_unsized(exchange, path, descriptor)
    finally:
        os.close(descriptor)


async def _send_file(exchange: Exchange, descriptor: int, size: int) -> None:
    try:
        span = parse_range(exchange.head.headers.get("range", ""), size)
    except BadRequest as exc:
        size_shown = (("Content-Range", f"bytes */{size}"),)
        raise ApiError(exc.status, exc.code, str(exc), headers=size_shown) from exc
    ranges = ("Accept-Ranges", "bytes")
    kind = "application/octet-stream"
    start, end = span or (0, size)
    if span is None:
        await exchange.open(200, kind, size, ranges)
    else:
        shown = ("Content-Range", f"bytes {start}-{end - 1}/{size}")
        await exchange.open(206, kind, end - start, ranges, shown)
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
        raise _explain(path, exc) from exc
    await exchange.close()


async def write(exchange: Exchange) -> None:
    """Put the body in place of a file, at once when all of it is there; or leave all as it was.

    Missing directories are made. A file that is replaced hands on its mode and its owner.
    """
    path = _path(exchange)
    target = os.path.realpath(path)  # noqa: ASYNC240  # the disk is waited for, here as everywhere
    temporary = f"{os.path.dirname(target)}/.longshore-{os.urandom(8).hex()}"
    try:
        before = _look(path, target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as exc:
        raise _explain(path, exc) from exc
    try:
        try:
            while data := await exchange.receive():
                _write_all(descriptor, data)
            if before is not None:
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
                _hand_over(descriptor, before)
        finally:
            os.close(descriptor)
        os.rename(temporary, target)
    except OSError as exc:
        raise _explain(path, exc) from exc
    finally:
        _discard(temporary)
    await exchange.answer_nothing()


def _look(path: str, target: str) -> os.stat_result | None:
    """What is to be replaced, if there is something and it may be."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise _is_directory(path)
    if not stat.S_ISREG(status.st_mode):
        raise ApiError(400, "NOT_A_FILE", f"Path is not a regular file: {_shown(path)}")
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


def _discard(temporary: str) -> None:
    try:
        os.unlink(temporary)
    except OSError:
        return


async def delete(exchange: Exchange) -> None:
    path = _path(exchange)
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            raise _is_directory(path)
        os.unlink(path)
    except OSError as exc:
        raise _explain(path, exc) from exc
    await exchange.answer_nothing()


async def show_directory(exchange: Exchange) -> None:
    """Directories first, then by name. What links point to is not looked at."""
    path = _path(exchange)
    try:
        with os.scandir(path) as found:
            entries = [_entry(entry) for entry in found]
    except NotADirectoryError as exc:
        message = f"Path is not a directory: {_shown(path)}"
        raise ApiError(400, "NOT_A_DIRECTORY", message) from exc
    except OSError as exc:
        raise _explain(path, exc) from exc
    entries.sort(key=lambda entry: (not entry["is_dir"], str(entry["name"]).encode()))
    listed: list[JSON] = [*entries]
    await exchange.answer(200, {"path": _shown(path), "entries": listed})


def _entry(entry: os.DirEntry[str]) -> dict[str, JSON]:
    shown: dict[str, JSON] = {
        "name": _shown(entry.name),
        "is_dir": entry.is_dir(follow_symlinks=False),
        "size": None,
        "modified_at": None,
    }
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return shown
    shown["size"] = None if shown["is_dir"] else status.st_size
    shown["modified_at"] = status.st_mtime_ns // 1_000_000
    return shown
