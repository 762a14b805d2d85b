"""Where output is kept: in files without names, which nobody can tidy away, replace or find.

A file lives as long as its descriptor, so there is nothing to clear up, however the daemon ends.
"""

from __future__ import annotations

import errno
import os

from longshore_daemon.inside import descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TOTAL = 4 << 30


class Store:
    """Makes the files, and counts what they take: up to `total` bytes, a quarter of the disk, and
    half of the descriptors that there may be. When no room is left, `make_room` is asked for some.
    """

    __slots__ = ("_directories", "_files_limit", "bytes", "files", "make_room", "total")

    def __init__(self, directories: tuple[str, ...], total: int = TOTAL) -> None:
        """The first of them that can be written to is used. Raises OSError when none can."""
        self._directories = tuple(path for path in directories if path.startswith("/"))
        self._files_limit = descriptors.limit() // 2
        self.bytes = 0
        self.files = 0
        self.make_room: Callable[[], bool] = _make_none
        """Lets go of something, if there is anything; whether there was."""
        first = self.open()
        disk = os.fstatvfs(first)
        self.total = min(total, disk.f_blocks * disk.f_frsize // 4)
        self.close(first)

    def has_room(self) -> bool:
        while self.bytes >= self.total or self.files >= self._files_limit:
            if not self.make_room():
                return False
        return True

    def open(self) -> int:
        """A new file. Raises OSError."""
        number = errno.ENOENT
        for directory in self._directories:
            path = f"{directory}/.longshore-{os.urandom(8).hex()}"
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as exc:
                number = exc.errno or number
                continue
            _unlink(path)
            self.files += 1
            return descriptor
        raise OSError(number, f"none of {', '.join(self._directories)} can be written to")

    def close(self, descriptor: int) -> None:
        os.close(descriptor)
        self.files -= 1


def _make_none() -> bool:
    return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
