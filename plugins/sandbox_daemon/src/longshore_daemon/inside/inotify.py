"""What happens in directories, as the kernel tells it.

The standard library has no door to inotify but `ctypes`, which takes 20 ms and 2 MB to open. Its C
module alone takes 5 ms and 0.2 MB, and calls functions of the C library that is loaded anyway.
"""

from __future__ import annotations

import os
from struct import calcsize, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    _ctypes: Any
else:
    import _ctypes

MODIFIED, ATTRIBUTES, WRITTEN = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATED, DELETED = 0x40, 0x80, 0x100, 0x200
SELF_DELETED, SELF_MOVED = 0x400, 0x800
OVERFLOW, IGNORED, DIRECTORY = 0x4000, 0x8000, 0x40000000
ONLY_DIRECTORY, NO_FOLLOW = 0x01000000, 0x02000000
_HEAD = "iIII"
_READ = 65536


class Event:
    """One record: which watch, what, and the name of what it happened to in there."""

    __slots__ = ("cookie", "mask", "name", "watch")

    def __init__(self, watch: int, mask: int, cookie: int, name: bytes) -> None:
        self.watch = watch
        self.mask = mask
        self.cookie = cookie
        self.name = os.fsdecode(name)


class Inotify:
    """An instance. Raises OSError."""

    __slots__ = ("_add", "_remove", "descriptor")

    def __init__(self) -> None:
        number = type("Number", (_ctypes._SimpleCData,), {"_type_": "i"})  # noqa: SLF001
        flags = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        function = type("Function", (_ctypes.CFuncPtr,), {"_flags_": flags, "_restype_": number})
        library = _ctypes.dlopen(None, 0)
        open_instance = function(_ctypes.dlsym(library, "inotify_init1"))
        self._add: Any = function(_ctypes.dlsym(library, "inotify_add_watch"))
        self._remove: Any = function(_ctypes.dlsym(library, "inotify_rm_watch"))
        self.descriptor: int = _checked(open_instance(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, path: str, mask: int) -> int:
        """The number of the watch. The same file has the same one."""
        return _checked(self._add(self.descriptor, os.fsencode(path), mask))

    def remove(self, watch: int) -> None:
        self._remove(self.descriptor, watch)

    def read(self) -> list[Event]:
        """What has happened; nothing yet is an empty list."""
        try:
            data = os.read(self.descriptor, _READ)
        except BlockingIOError:
            return []
        events: list[Event] = []
        position = 0
        while position < len(data):
            watch, mask, cookie, length = unpack_from(_HEAD, data, position)
            position += calcsize(_HEAD)
            name = data[position : position + length].rstrip(b"\0")
            events.append(Event(watch, mask, cookie, name))
            position += length
        return events

    def close(self) -> None:
        os.close(self.descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = int(_ctypes.get_errno())
        raise OSError(number, os.strerror(number))
    return result
