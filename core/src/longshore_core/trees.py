"""Deleting directories that a sandbox could write to, whatever it has made of them.

For drivers. Such a directory may be nested more deeply than Python can recurse or a process can
hold open, locked against its owner, full of links that lead elsewhere, and changed meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

_OPEN_LEVELS: Final = 32
"""So many directories, one in the other, are held open at once."""
_PASSES: Final = 3
"""What somebody changes meanwhile is looked at anew, and not for ever."""
_SHOWN_LEVELS: Final = 8
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NODE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_NO_DIRECTORY: Final = (errno.ENOTDIR, errno.ELOOP)
_UNLOCKED: Final = 0o700


def delete_tree(path: str | os.PathLike[str]) -> None:
    """Delete what is at a path, and all that is in it. Absent: nothing. Blocking: for a thread.

    Links are deleted, not followed. Raises OSError for the first thing that cannot be deleted,
    when the rest is.
    """
    above, name = os.path.split(os.path.abspath(path))
    failure: OSError | None = None
    for _ in range(_PASSES):
        failure = _delete(above, name)
        if failure is None:
            return
    if failure is not None:
        raise failure


def _delete(above: str, name: str) -> OSError | None:
    """The first failure of one pass."""
    try:
        root = _Level(os.open(above, os.O_PATH | os.O_DIRECTORY), above)
    except FileNotFoundError:
        return None
    root.directories.append(name)
    descent = _Descent(root)
    try:
        while descent.step():
            pass
    except OSError as exc:
        descent.note(exc)
    finally:
        descent.close()
    return descent.failure


class _Level:
    """A directory, and what in it is still to be deleted."""

    __slots__ = ("descriptor", "directories", "files", "identity", "name")

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.directories: list[str] = []
        self.files: list[str] = []
        self.identity = _identity_of(os.fstat(descriptor))

    def close(self) -> None:
        """Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _Descent:
    """The way down to the directory that is being emptied. It is left as it was entered."""

    def __init__(self, root: _Level) -> None:
        self._way = [root]
        self.failure: OSError | None = None

    def step(self) -> bool:
        """Delete one thing, or go one level down or up; whether there is more to do. Raises
        OSError when the way up is lost."""
        level = self._way[-1]
        if level.files:
            self._delete(os.unlink, level, level.files.pop())
        elif level.directories:
            self._enter(level, level.directories.pop())
        elif len(self._way) > 1:
            self._leave(level, self._way[-2])
        else:
            return False
        return True

    def note(self, exc: OSError, name: str = "") -> None:
        """Keep the first failure, with what it is about; how long that is, the sandbox decides."""
        if self.failure is None:
            names = [level.name for level in self._way] + [name] * bool(name)
            if len(names) > _SHOWN_LEVELS:
                names[_SHOWN_LEVELS // 2 : -_SHOWN_LEVELS // 2] = ["..."]
            self.failure = OSError(exc.errno, os.strerror(exc.errno or 0), os.path.join(*names))

    def close(self) -> None:
        for level in self._way:
            level.close()

    def _delete(self, call: Callable[..., None], level: _Level, name: str) -> None:
        try:
            call(name, dir_fd=level.descriptor)
        except FileNotFoundError:
            return
        except OSError as exc:
            self.note(exc, name)

    def _enter(self, level: _Level, name: str) -> None:
        try:
            inner = _opened(name, level.descriptor)
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno in _NO_DIRECTORY:
                level.files.append(name)
            else:
                self._give_up(level, name, exc)
            return
        self._way.append(inner)
        if len(self._way) > _OPEN_LEVELS:
            self._way[-1 - _OPEN_LEVELS].close()

    def _leave(self, level: _Level, above: _Level) -> None:
        if above.descriptor < 0:
            above.descriptor = os.open("..", _DIRECTORY, dir_fd=level.descriptor)
            if _identity_of(os.fstat(above.descriptor)) != above.identity:
                # Never go on there: it may be anybody's.
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self._way.pop().close()
        self._delete(os.rmdir, above, level.name)

    def _give_up(self, level: _Level, name: str, exc: OSError) -> None:
        """Of a directory that cannot be looked into: it may be empty."""
        try:
            os.rmdir(name, dir_fd=level.descriptor)
        except OSError:
            self.note(exc, name)


def _opened(name: str, above: int) -> _Level:
    """A directory, unlocked as far as that is ours to do, and what is in it."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=above)
    except PermissionError:
        descriptor = _open_locked(name, above)
    try:
        if os.fstat(descriptor).st_mode & _UNLOCKED != _UNLOCKED:
            # What is not allowed after that, is told where it is tried.
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, _UNLOCKED)
        level = _Level(descriptor, name)
        with os.scandir(descriptor) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                (level.directories if is_directory else level.files).append(entry.name)
    except BaseException:
        os.close(descriptor)
        raise
    return level


def _open_locked(name: str, above: int) -> int:
    """Open one that nobody may read, if it is ours: by its node, which no link can replace."""
    node = os.open(name, _NODE, dir_fd=above)
    try:
        os.chmod(f"/proc/self/fd/{node}", _UNLOCKED)
        return os.open(".", _DIRECTORY, dir_fd=node)
    finally:
        os.close(node)


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
