"""The route /api/v1/files/watch: what happens to files, as it happens."""

from __future__ import annotations

import errno
import os
import stat
from time import monotonic

from longshore_daemon.inside import inotify
from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.inotify import Event, Inotify
from longshore_daemon.inside.jsontext import dumps
from longshore_daemon.inside.loop import READ, Wait, pause
from longshore_daemon.inside.paths import Paths, encoded, explain, shown
from longshore_daemon.inside.stream import Disconnected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.server import Route

_KEEPALIVE_SECONDS = 15.0
_KINDS = {
    inotify.CREATED: "created",
    inotify.MODIFIED: "modified",
    inotify.WRITTEN: "written",
    inotify.ATTRIBUTES: "attributes",
    inotify.DELETED: "deleted",
    inotify.MOVED_FROM: "moved_from",
    inotify.MOVED_TO: "moved_to",
}
_LAST = inotify.SELF_DELETED | inotify.SELF_MOVED
_WANTED = sum(_KINDS) | _LAST


class WatchRoutes:
    __slots__ = ("_paths",)

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def table(self) -> tuple[Route, ...]:
        return (("GET", "files/watch", self.watch),)

    async def watch(self, exchange: Exchange) -> None:
        """A file or a directory; with `recursive=true`, also all directories below it.

        `ready` when it is watched, `change` for each event, `overflow` when more has happened than
        the kernel keeps, `eof` when what is watched is there no more.
        """
        path = self._paths.asked(exchange)
        target = self._paths.target(path)
        recursive = exchange.head.query.get("recursive") in ("1", "true")
        try:
            watch = Watch(path.rstrip("/") or "/", recursive)
        except OSError as exc:
            raise _refuse(path, exc) from exc
        try:
            try:
                await watch.add(target)
            except OSError as exc:
                raise _refuse(path, exc) from exc
            event_stream = ("Cache-Control", "no-cache")
            await exchange.open(200, "text/event-stream", None, event_stream)
            await exchange.send(b"event: ready\ndata: {}\n\n")
            await _send_all(exchange, watch)
            await exchange.send(b"event: eof\ndata: {}\n\n")
            await exchange.close()
        finally:
            watch.close()


async def _send_all(exchange: Exchange, watch: Watch) -> None:
    gone = exchange.stream.gone
    keepalive = monotonic() + _KEEPALIVE_SECONDS
    while not watch.ended:
        if told := b"".join(await watch.tell()):
            await exchange.send(told)
            keepalive = monotonic() + _KEEPALIVE_SECONDS
            await pause()
            continue
        if watch.ended:
            # That it is there no more is all that there was to tell.
            return
        wait = Wait((watch.descriptor, READ), gone, deadline=keepalive)
        if not await wait:
            await exchange.send(b":\n\n")
            keepalive = monotonic() + _KEEPALIVE_SECONDS
        if wait.fired == gone[0]:
            raise Disconnected("the watcher hung up")


def _refuse(path: str, exc: OSError) -> ApiError:
    if exc.errno in (errno.ENOSPC, errno.EMFILE, errno.ENFILE):
        message = f"{shown(path)}: the system watches as much as it may already"
        return ApiError(429, "WATCH_LIMIT", message, retryable=True)
    if exc.errno == errno.ENOSYS:
        return ApiError(501, "UNSUPPORTED_CAPABILITY", "this system cannot watch files")
    return explain(path, exc)


class Watch:
    """The directories that are watched, and where each is."""

    __slots__ = ("_inotify", "_path", "_places", "_recursive", "_root", "ended")

    def __init__(self, path: str, recursive: bool) -> None:
        self._path = path
        self._recursive = recursive
        self._inotify = Inotify()
        self._places: dict[int, tuple[str, str]] = {}
        """By number: the path by which it is reached, and that from what is watched on."""
        self._root = 0
        self.ended = False

    @property
    def descriptor(self) -> int:
        return self._inotify.descriptor

    def close(self) -> None:
        self._inotify.close()

    async def add(self, target: str) -> None:
        """Watch it, and what is below if that is wanted. Raises OSError."""
        await self._add_all(self._add_one(target, "", None), None)

    async def _add_all(self, waiting: list[tuple[str, str]], found: list[str] | None) -> None:
        """Those, and all below, however deep; `found` gets what is there already."""
        while waiting:
            target, place = waiting.pop()
            try:
                waiting += self._add_one(target, place, found)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                # It has gone again, or nothing in there can be seen anyway.
                continue
            await pause()

    def _add_one(self, target: str, place: str, found: list[str] | None) -> list[tuple[str, str]]:
        """The directories in it, if they are wanted. Raises OSError."""
        number = self._inotify.add(target, _WANTED)
        self._root = self._root or number
        self._places[number] = (target, place)
        if not self._recursive or not stat.S_ISDIR(os.stat(target).st_mode):
            return []
        below: list[tuple[str, str]] = []
        with os.scandir(target) as entries:
            for entry in entries:
                if found is not None:
                    found.append(f"{place}/{entry.name}")
                if entry.is_dir(follow_symlinks=False):
                    below.append((f"{target}/{entry.name}", f"{place}/{entry.name}"))
        return below

    async def tell(self) -> list[bytes]:
        """What has happened, as events."""
        told: list[bytes] = []
        for event in self._inotify.read():
            if event.mask & inotify.OVERFLOW:
                told.append(b"event: overflow\ndata: {}\n\n")
            elif event.mask & inotify.IGNORED:
                self._places.pop(event.watch, None)
                self.ended = self.ended or event.watch == self._root
            elif event.mask & _LAST:
                self.ended = self.ended or event.watch == self._root
            elif event.watch in self._places:
                told += await self._tell(event)
        return told

    async def _tell(self, event: Event) -> list[bytes]:
        target, place = self._places[event.watch]
        if event.name:
            target, place = f"{target}/{event.name}", f"{place}/{event.name}"
        is_directory = bool(event.mask & inotify.DIRECTORY)
        kind = next((name for bit, name in _KINDS.items() if event.mask & bit), "other")
        told = [self._event(kind, place, is_directory, event.cookie)]
        if is_directory and self._recursive and event.name:
            if kind == "moved_from":
                self._forget(place)
            elif kind in ("created", "moved_to"):
                # Something may have come into it before it was watched.
                told += await self._tell_below(target, place)
        return told

    async def _tell_below(self, target: str, place: str) -> list[bytes]:
        found: list[str] = []
        told: list[bytes] = []
        try:
            await self._add_all([(target, place)], found)
        except OSError:
            # It cannot be watched: what happens in there is lost.
            told.append(b"event: overflow\ndata: {}\n\n")
        return [self._event("created", inner, None, 0) for inner in found] + told

    def _forget(self, place: str) -> None:
        for number, (_, watched) in list(self._places.items()):
            if watched == place or watched.startswith(f"{place}/"):
                self._inotify.remove(number)
                del self._places[number]

    def _event(self, kind: str, place: str, is_directory: bool | None, cookie: int) -> bytes:
        path = self._path.rstrip("/") + place
        data: dict[str, JSON] = {"kind": kind, "path": shown(path)}
        if (name := encoded(path)) is not None:
            data["path_encoded"] = name
        if is_directory is not None:
            data["is_dir"] = is_directory
        if cookie:
            data["cookie"] = cookie
        return b"event: change\ndata: " + dumps(data) + b"\n\n"
