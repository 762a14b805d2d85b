"""The paths of files that requests name, and what is said of them when they are of no use."""

from __future__ import annotations

import errno
import os

from longshore_daemon.inside.exchange import ApiError, Exchange

_ANSWERS = {
    errno.ENOENT: (404, "NOT_FOUND"),
    errno.ENOTDIR: (400, "NOT_A_DIRECTORY"),
    errno.EISDIR: (400, "IS_DIRECTORY"),
    errno.EEXIST: (409, "ALREADY_EXISTS"),
    errno.ENOTEMPTY: (409, "ALREADY_EXISTS"),
    errno.ENAMETOOLONG: (400, "BAD_REQUEST"),
    errno.EINVAL: (400, "BAD_REQUEST"),
    errno.ELOOP: (400, "BAD_REQUEST"),
    errno.EXDEV: (400, "CROSS_DEVICE"),
    errno.EACCES: (403, "PERMISSION_DENIED"),
    errno.EPERM: (403, "PERMISSION_DENIED"),
    errno.EROFS: (403, "PERMISSION_DENIED"),
    errno.EBUSY: (409, "FILE_BUSY"),
    errno.ETXTBSY: (409, "FILE_BUSY"),
    errno.EFBIG: (507, "DISK_FULL"),
    errno.ENOSPC: (507, "DISK_FULL"),
    errno.EDQUOT: (507, "DISK_FULL"),
}


class Paths:
    """Checks them. Where there is a root, nothing outside of it is reached, not by links either:
    where they lead is looked at when the request comes."""

    __slots__ = ("_root",)

    def __init__(self, root: str = "") -> None:
        self._root = root

    def asked(self, exchange: Exchange, name: str = "path") -> str:
        """The path in the query. Raises ApiError."""
        return self.checked(exchange.head.query.get(name, ""), name)

    def checked(self, path: str, name: str = "path") -> str:
        """As it is; relative ones are of the root, or of the daemon's own directory."""
        if not path or "\0" in path:
            raise ApiError(400, "BAD_REQUEST", f"{name}: the path of a file is wanted")
        if ".." in path.split("/"):
            message = "Path traversal detected: '..' is not allowed"
            raise ApiError(403, "PATH_TRAVERSAL", message)
        return path

    def target(self, path: str) -> str:
        """Where a path leads, links followed."""
        if not self._root:
            return path
        return self._within(os.path.realpath(os.path.join(self._root, path)), path)

    def entry(self, path: str) -> str:
        """What stands at a path, be it a link. With a slash or a dot behind it, the system would
        follow it."""
        path = os.path.normpath(path)
        if not self._root:
            return path
        directory, name = os.path.split(os.path.join(self._root, path))
        return self._within(os.path.join(os.path.realpath(directory), name), path)

    def check(self, descriptor: int, path: str) -> None:
        """That what was opened is within, whatever became of the links meanwhile."""
        if self._root:
            self._within(os.readlink(f"/proc/self/fd/{descriptor}"), path)

    def is_root(self, path: str) -> bool:
        return os.path.realpath(path) == os.path.realpath(self._root or "/")

    def _within(self, resolved: str, path: str) -> str:
        root = os.path.realpath(self._root)
        if resolved != root and not resolved.startswith(f"{root.rstrip('/')}/"):
            message = f"{shown(path)} leads out of {shown(self._root)}"
            raise ApiError(403, "PATH_TRAVERSAL", message)
        return resolved


def explain(path: str, exc: OSError) -> ApiError:
    status, code = _ANSWERS.get(exc.errno or 0, (500, "INTERNAL_ERROR"))
    if code == "NOT_FOUND":
        return ApiError(status, code, f"File not found: {shown(path)}")
    return ApiError(status, code, f"{shown(path)}: {exc.strerror}")


def shown(path: str) -> str:
    """For people: with U+FFFD for what is not UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def encoded(path: str) -> str | None:
    """As it goes into a query, when that is the only way to name it."""
    raw = path.encode("utf-8", "surrogateescape")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"%{byte:02X}" for byte in raw)
    return None


def is_directory(path: str) -> ApiError:
    message = (
        f"Path is a directory, not a file: {shown(path)}. "
        "Use /api/v1/files/list to list directory contents."
    )
    return ApiError(400, "IS_DIRECTORY", message)


def is_no_file(path: str) -> ApiError:
    return ApiError(400, "NOT_A_FILE", f"Path is not a regular file: {shown(path)}")


def discard(temporary: str) -> None:
    """Remove it, if it has not got its name already."""
    try:
        os.unlink(temporary)
    except OSError:
        return


def mode_of(text: str) -> int:
    """Permission bits. Raises ApiError 422."""
    if not 0 < len(text) <= 5 or not set(text) <= set("01234567") or int(text, 8) > 0o7777:
        raise ApiError(422, "INVALID_REQUEST", "mode: octal digits such as '0755' are wanted")
    return int(text, 8)


def mode_asked(exchange: Exchange) -> int | None:
    """The mode in the query. Raises ApiError 422."""
    text = exchange.head.query.get("mode")
    return None if text is None else mode_of(text)


def make_directories(path: str, mode: int | None = None) -> None:
    """With those above; none is made if all are there. The mode is for the last, if it is made.

    Raises OSError.
    """
    try:
        is_new = mode is not None and not os.path.lexists(path)
        os.makedirs(path, exist_ok=True)
        if mode is not None and is_new:
            os.chmod(path, mode)
    except FileExistsError as exc:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from exc
