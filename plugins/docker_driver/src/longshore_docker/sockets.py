"""The host's side of containers' directories for sockets.

They lie in one that nobody but the worker can enter, and belong to whom PID 1 runs as: inside, all
of them would be in the way of another user's.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import Final

from longshore_core import BackendError, ContainerId, ImageError

ACCOUNTS: Final = "/etc/passwd"


class Sockets:
    """By container id, for one owner. Blocking: for a thread.

    Those that are made are claimed until they are discarded, or nobody knows whether a container
    has them. What is not claimed, and no container has, is left over: also of a worker before.
    """

    def __init__(self, state_dir: Path, owner: str) -> None:
        self._root = state_dir.resolve() / "sockets"
        self._owner = owner
        self._root.mkdir(mode=0o700, exist_ok=True)
        self._claimed = set[str]()
        self._turn = threading.Lock()
        """What is claimed is not swept."""

    def path(self, id_: ContainerId) -> str:
        mark = hashlib.sha256(f"{self._owner}\0{id_}".encode()).hexdigest()[:24]
        return str(self._root / mark)

    def make(self, id_: ContainerId) -> None:
        """Idempotent: one that is there is kept, with all that is in it."""
        with self._turn:
            self._claimed.add(self.path(id_))
            os.makedirs(self.path(id_), mode=0o700, exist_ok=True)

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
        """Idempotent."""
        with self._turn:
            shutil.rmtree(self.path(id_), ignore_errors=True)
            self.disclaim(id_)

    def disclaim(self, id_: ContainerId) -> None:
        """Leave it to `sweep`, if no container has it. Does not block."""
        self._claimed.discard(self.path(id_))

    def unclaimed(self) -> frozenset[str]:
        """The paths of those of which only the engine knows whether a container has them."""
        return frozenset(str(each) for each in self._root.iterdir()) - self._claimed

    def sweep(self, paths: frozenset[str]) -> None:
        """Remove those of the paths that are not claimed by now."""
        for path in paths:
            with self._turn:
                if path not in self._claimed:
                    shutil.rmtree(path, ignore_errors=True)


def ids(user: str, accounts: str | None) -> tuple[int, int]:
    """The numbers of an image's `USER`, which may be a name of its `/etc/passwd`.

    Raises BackendError for one that is not there, as the engine will.
    """
    name, _, group = user.partition(":")
    if not name:
        return 0, 0
    for line in (accounts or "").splitlines():
        fields = line.split(":")
        if len(fields) > 3 and name in (fields[0], fields[2]):
            return int(fields[2]), int(group) if group.isdigit() else int(fields[3])
    if name.isdigit():
        return int(name), int(group) if group.isdigit() else 0
    raise BackendError(f"the image runs as user {name!r}, of whom its {ACCOUNTS} knows nothing")


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
