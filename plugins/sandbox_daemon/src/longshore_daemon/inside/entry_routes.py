"""The routes under /api/v1/files for what files and directories are, but for what is in them."""

from __future__ import annotations

import errno
import os
import stat

from longshore_daemon.inside.durable import synchronize
from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.fields import Fields
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
    mode_of,
    shown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.server import Route

_PIECE = 1 << 20
_OPEN_LEVELS = 32
"""So many directories, one in the other, are held open at once."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character_device",
    stat.S_IFBLK: "block_device",
}


class EntryRoutes:
    __slots__ = ("_paths",)

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def table(self) -> tuple[Route, ...]:
        return (
            ("DELETE", "files", self.delete),
            ("GET", "files/stat", self.show),
            ("POST", "files/mkdir", self.make_directory),
            ("PUT", "files/mkdir", self.make_directory),
            ("POST", "files/rename", self.rename),
            ("POST", "files/chmod", self.change_mode),
        )

    async def make_directory(self, exchange: Exchange) -> None:
        """With those above it, if they are missing. One that is there already is no error, and
        keeps its mode."""
        path, mode = self._paths.asked(exchange), mode_asked(exchange)
        try:
            make_directories(self._paths.target(path), mode)
        except OSError as exc:
            raise explain(path, exc) from exc
        await exchange.answer_nothing()

    async def show(self, exchange: Exchange) -> None:
        """What stands there; with `follow=true`, what it leads to."""
        path = self._paths.asked(exchange)
        follow = exchange.head.query.get("follow") in ("1", "true")
        entry = self._paths.target(path) if follow else self._paths.entry(path)
        try:
            status = os.stat(entry, follow_symlinks=follow)
            link = os.readlink(entry) if stat.S_ISLNK(status.st_mode) else None
        except OSError as exc:
            raise explain(path, exc) from exc
        await exchange.answer(200, _describe(path, status, link))

    async def rename(self, exchange: Exchange) -> None:
        """Move `from` to `to`, which it replaces at once if that is a file, as rename(2) does.

        Missing directories are made. Between file systems, files alone can be moved.
        """
        query = exchange.head.query
        if "from" in query:
            names = [query["from"], query.get("to", "")]
        else:
            fields = Fields(await exchange.receive_json())
            names = [fields.required_text("from"), fields.required_text("to")]
        source, target = (
            self._paths.entry(self._paths.checked(path, name))
            for path, name in zip(names, ("from", "to"), strict=True)
        )
        try:
            os.lstat(source)
        except OSError as exc:
            raise explain(names[0], exc) from exc
        try:
            make_directories(os.path.dirname(target.rstrip("/")) or ".")
            try:
                os.rename(source, target)
            except OSError as exc:
                if exc.errno != errno.EXDEV or not stat.S_ISREG(os.lstat(source).st_mode):
                    raise
                await _carry_over(source, target)
        except OSError as exc:
            raise explain(names[1], exc) from exc
        await exchange.answer_nothing()

    async def change_mode(self, exchange: Exchange) -> None:
        """Of what a path leads to: a link has no mode."""
        fields = Fields(await exchange.receive_json())
        path = exchange.head.query.get("path") or fields.required_text("path")
        path = self._paths.checked(path)
        mode = mode_of(fields.required_text("mode"))
        try:
            os.chmod(self._paths.target(path), mode)
        except OSError as exc:
            raise explain(path, exc) from exc
        await exchange.answer_nothing()

    async def delete(self, exchange: Exchange) -> None:
        """A file, or a link; with `recursive=true`, also a directory with all that is in it."""
        path = self._paths.asked(exchange)
        entry = self._paths.entry(path)
        try:
            if not stat.S_ISDIR(os.lstat(entry).st_mode):
                os.unlink(entry)
            elif exchange.head.query.get("recursive") not in ("1", "true"):
                raise is_directory(path)
            elif self._paths.is_root(entry):
                raise ApiError(403, "PERMISSION_DENIED", f"{shown(path)} is all that there is")
            else:
                # One that is named by a dot cannot be removed by that name.
                await _remove_tree(os.path.abspath(entry))  # noqa: ASYNC240  # reads no disk
        except OSError as exc:
            raise explain(path, exc) from exc
        await exchange.answer_nothing()


def _describe(path: str, status: os.stat_result, link: str | None) -> dict[str, JSON]:
    described: dict[str, JSON] = {
        "path": shown(path),
        "type": _KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        "is_dir": stat.S_ISDIR(status.st_mode),
        "size": status.st_size,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "uid": status.st_uid,
        "gid": status.st_gid,
        "links": status.st_nlink,
        "modified_at": status.st_mtime_ns // 1_000_000,
        "accessed_at": status.st_atime_ns // 1_000_000,
        "changed_at": status.st_ctime_ns // 1_000_000,
        "target": None if link is None else shown(link),
    }
    if link is not None and (target := encoded(link)) is not None:
        described["target_encoded"] = target
    return described


async def _carry_over(source: str, target: str) -> None:
    """Move a file to another file system: it appears there whole, or not at all."""
    temporary = f"{os.path.dirname(target)}/.longshore-{os.urandom(8).hex()}"
    reading = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode):
            raise is_no_file(source)
        writing = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            while os.sendfile(writing, reading, None, _PIECE):
                await pause()
            os.chown(writing, status.st_uid, status.st_gid)
            os.chmod(writing, stat.S_IMODE(status.st_mode))
            os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
            await synchronize(writing)
        finally:
            os.close(writing)
        os.rename(temporary, target)
    finally:
        discard(temporary)
        os.close(reading)
    os.unlink(source)


async def _remove_tree(directory: str) -> None:
    """Links are removed, not followed, also by one who replaces directories meanwhile."""
    way = [_Level(os.open(directory, _DIRECTORY), "")]
    try:
        while way:
            level = way[-1]
            if level.files:
                os.unlink(level.files.pop(), dir_fd=level.descriptor)
            elif level.directories:
                name = level.directories.pop()
                way.append(_Level(os.open(name, _DIRECTORY, dir_fd=level.descriptor), name))
                if len(way) > _OPEN_LEVELS:
                    way[-1 - _OPEN_LEVELS].close()
            else:
                if len(way) > 1:
                    way[-2].open_above(level.descriptor)
                    os.rmdir(level.name, dir_fd=way[-2].descriptor)
                way.pop().close()
            await pause()
        os.rmdir(directory)
    finally:
        for level in way:
            level.close()


class _Level:
    """A directory that is being emptied."""

    __slots__ = ("_identity", "descriptor", "directories", "files", "name")

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.directories: list[str] = []
        self.files: list[str] = []
        try:
            self._identity = _identity_of(descriptor)
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    is_directory = entry.is_dir(follow_symlinks=False)
                    (self.directories if is_directory else self.files).append(entry.name)
        except OSError:
            self.close()
            raise

    def open_above(self, descriptor: int) -> None:
        """Have it open again, as what is above another. Raises OSError if that was moved away."""
        if self.descriptor < 0:
            self.descriptor = os.open("..", _DIRECTORY, dir_fd=descriptor)
            if _identity_of(self.descriptor) != self._identity:
                raise FileNotFoundError(errno.ENOENT, "a directory was moved away meanwhile")

    def close(self) -> None:
        """Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _identity_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
