"""The host's side of containers' directories for sockets.

They lie in one that nobody but the worker can enter, and belong to whom PID 1 runs as: inside, all
of them would be in the way of another user's.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tarfile
import threading
from pathlib import Path
from typing import Final

from longshore_core import BackendError, ContainerId, ImageError
from longshore_core.trees import delete_tree

ACCOUNTS: Final = "/etc/passwd"
_LAST_NUMBER: Final = (1 << 31) - 1
"""Of users and groups: the engine takes none above."""
_DIGITS: Final = 20
"""More than any number has, and less than Python reads as one."""


class Sockets:
    """By container id, for one owner. Blocking: for a thread.

    Those that are made are claimed until they are discarded, or nobody knows whether a container
    has them. What is not claimed, and no container has, is left over: also of a worker before.
    """

    def __init__(self, state_dir: Path, owner: str, logger: logging.Logger) -> None:
        self._root = state_dir.resolve() / "sockets"
        self._owner = owner
        self._logger = logger
        self._root.mkdir(mode=0o700, exist_ok=True)
        self._claimed = set[str]()
        self._turn = threading.Lock()
        """What is claimed is not swept."""

    def path(self, id_: ContainerId) -> str:
        mark = hashlib.sha256(f"{self._owner}\0{id_}".encode()).hexdigest()[:24]
        return str(self._root / mark)

    def make(self, id_: ContainerId) -> None:
        """Idempotent: one that is there is kept, with all that is in it. Raises BackendError."""
        path = self.path(id_)
        with self._turn:
            self._claimed.add(path)
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
            except OSError as exc:
                self.disclaim(id_)
                what = f"cannot make {path}, where container {id_} is to have its sockets"
                raise BackendError(f"{what}: {exc.strerror}", retryable=True) from exc

    def give(self, id_: ContainerId, uid: int, gid: int) -> None:
        """Have it belong to a user. Raises BackendError when this process may not."""
        try:
            os.chown(self.path(id_), uid, gid)
        except PermissionError as exc:
            raise BackendError(
                f"the image of container {id_} runs as user {uid}, to whom only root can give a "
                "directory: run the worker as root, or use an image that runs as root"
            ) from exc

    def discard(self, id_: ContainerId) -> None:
        """Idempotent. Raises BackendError for one that stays, which then is left to `sweep`."""
        path = self.path(id_)
        with self._turn:
            self.disclaim(id_)
            try:
                delete_tree(path)
            except OSError as exc:
                what = f"cannot delete {path}, where container {id_} had its sockets"
                raise BackendError(f"{what}: {exc.strerror}", retryable=True) from exc

    def disclaim(self, id_: ContainerId) -> None:
        """Leave it to `sweep`, if no container has it. Does not block."""
        self._claimed.discard(self.path(id_))

    def unclaimed(self) -> frozenset[str]:
        """The paths of those of which only the engine knows whether a container has them."""
        return frozenset(str(each) for each in self._root.iterdir()) - self._claimed

    def sweep(self, paths: frozenset[str]) -> None:
        """Remove those of the paths that are not claimed by now. One that stays is logged: nobody
        waits for it, and it is found again."""
        for path in paths:
            with self._turn:
                if path in self._claimed:
                    continue
                try:
                    delete_tree(path)
                except OSError as exc:
                    extra = {"path": path, "why": str(exc)}
                    self._logger.warning("docker_sockets_left", extra=extra)


def ids(user: str, accounts: str | None) -> tuple[int, int]:
    """The numbers of an image's `USER`, which may be a name of its `/etc/passwd`.

    Raises BackendError for one that is not there, as the engine will, and ImageError for what is no
    number where one must be.
    """
    name, _, group = user.partition(":")
    if not name:
        return 0, 0
    for line in (accounts or "").splitlines():
        fields = line.split(":")
        if len(fields) > 3 and name in (fields[0], fields[2]):
            said = group if group.isdecimal() else fields[3]
            return _number(fields[2], user), _number(said, user)
    if name.isdecimal():
        return _number(name, user), _number(group, user) if group.isdecimal() else 0
    raise BackendError(f"the image runs as user {name!r}, of whom its {ACCOUNTS} knows nothing")


def _number(text: str, user: str) -> int:
    is_short = len(text) <= _DIGITS
    if is_short and text.isascii() and text.isdecimal() and int(text) <= _LAST_NUMBER:
        return int(text)
    shown = text if is_short else f"{text[:_DIGITS]}..."
    raise ImageError(
        f"the image runs as user {user!r}, of whom {shown!r} is no number from 0 to {_LAST_NUMBER}"
    )


def content(archive: bytes | None) -> str | None:
    """The text of the one file in a tar archive. Raises ImageError for what is none."""
    if archive is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.getmembers()[0]
        file = tar.extractfile(member) if member.isfile() else None
        if file is None:
            raise ImageError(f"the image's {ACCOUNTS} is no plain file; name its user by number")
        return file.read().decode(errors="replace")
