"""Which containers there are: the directories under the driver's own.

What stands under an id is complete. It is made under a name with a dot and renamed, and it is
renamed again before it is deleted; so a driver that dies at any point leaves either a container or
a name with a dot, which the next one sweeps.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from longshore_core import BackendError, CapacityExhausted, ContainerId, ContainerSpec
from longshore_core.trees import delete_tree

from longshore_forkexec.records import Asked, Directory, sync

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+=-]{0,127}")


class Directories:
    """The containers of one owner. Blocking: to be used from a thread."""

    def __init__(self, root: Path, owner: str) -> None:
        self._root = root
        self._owner = owner

    def at(self, id_: ContainerId) -> Directory:
        """Where a container is, or would be. Raises BackendError for an id that is no file name."""
        if not _SAFE_ID.fullmatch(id_):
            raise BackendError(
                f"container id {id_!r} cannot name a directory: it must be 1 to 128 letters, "
                "digits or any of _.:@+=- and begin with a letter, a digit or _"
            )
        return Directory(self._root / id_)

    def spec(self, directory: Directory) -> ContainerSpec | None:
        """What was asked for; `None` for a container that does not exist, or is another's."""
        asked = directory.asked()
        return asked.spec if asked and asked.owner == self._owner else None

    def holds(self, directory: Directory) -> bool:
        """Whether there is anything of the owner's in this place, complete or not."""
        asked = directory.asked()
        return asked.owner == self._owner if asked else directory.path.exists()

    def make(self, spec: ContainerSpec) -> None:
        """Make the container's directory, unless it exists. Raises BackendError."""
        directory = self.at(spec.id)
        while (asked := directory.asked()) is None:
            delete_tree(directory.path)  # a container that is not complete is none
            draft = Directory(Path(tempfile.mkdtemp(prefix=".new-", dir=self._root)))
            try:
                draft.fill(Asked(owner=self._owner, spec=spec))
                draft.path.rename(directory.path)
            except OSError as exc:
                delete_tree(draft.path)
                if exc.errno == errno.ENOSPC:
                    raise self._disk_full() from exc
                # Another call may have been quicker: then its container is the one.
                if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
        if asked.owner != self._owner:
            raise BackendError(f"container {spec.id} exists and belongs to {asked.owner}")
        sync(self._root)

    def discard(self, directory: Directory) -> None:
        """Delete the container's directory. Nothing of it runs any more. Idempotent.

        Raises BackendError when something of it stays: under its id, to be deleted again.
        """
        grave = Path(tempfile.mkdtemp(prefix=".gone-", dir=self._root))
        try:
            with contextlib.suppress(FileNotFoundError):
                directory.path.rename(grave)
        finally:
            try:
                delete_tree(grave)
            except OSError as exc:
                with contextlib.suppress(OSError):
                    grave.rename(directory.path)
                what = f"cannot delete {directory.path}, where container {directory.id} was"
                raise BackendError(f"{what}: {exc.strerror}", retryable=True) from exc

    def all(self) -> list[tuple[Directory, ContainerSpec]]:
        """Every container of the owner."""
        directories = [Directory(path) for path in self._root.iterdir() if path.is_dir()]
        found = [(each, self.spec(each)) for each in directories if _SAFE_ID.fullmatch(each.id)]
        return [(directory, spec) for directory, spec in found if spec is not None]

    def sweep(self, logger: logging.Logger) -> None:
        """Delete what an earlier driver had not quite made, or not quite deleted. What stays is
        logged, and in nobody's way."""
        for pattern in (".new-*", ".gone-*"):
            for path in self._root.glob(pattern):
                try:
                    delete_tree(path)
                except OSError as exc:
                    extra = {"path": str(path), "why": str(exc)}
                    logger.warning("fork_exec_directory_left", extra=extra)

    def _disk_full(self) -> CapacityExhausted:
        free = shutil.disk_usage(self._root).free
        return CapacityExhausted(
            "bytes of disk", requested=os.sysconf("SC_PAGE_SIZE"), available=free
        )
