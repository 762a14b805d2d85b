"""Whether an engine can limit what a container writes, and how it counts. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

_ABLE: Final = ("btrfs", "zfs")
_QUOTA_OPTIONS: Final = frozenset({"pquota", "prjquota"})
_BTRFS: Final = "btrfs"
_IN_BLOCKS: Final = 1.25
"""Files take up whole blocks: a sixteenth more for Debian's, a quarter for many small ones. What is
too much is room that a container has not asked for; with too little, it could not begin."""


def limits_disk(storage: str, directory: str, mountinfo: Iterable[str]) -> bool:
    """For the engine's storage driver and its directory; `mountinfo` is the host's, or empty where
    that cannot be known. overlay2 can on xfs alone, when that counts by project."""
    if storage.split(" ")[0] in _ABLE:
        return True
    if storage != "overlay2 xfs":
        return False
    place, options = "", frozenset[str]()
    for line in mountinfo:
        fields = line.split()
        point = fields[4]
        # Later lines are mounted over earlier ones, and the longest path is the nearest.
        if len(point) >= len(place) and os.path.commonpath([point, directory]) == point:
            place, options = point, frozenset(fields[-1].split(","))
    return bool(options & _QUOTA_OPTIONS)


def held_by_image(storage: str, image_bytes: int) -> int:
    """How much of a container's limit its image takes, at most. That of btrfs is for all that a
    subvolume refers to; the others count what was written."""
    return int(image_bytes * _IN_BLOCKS) if storage == _BTRFS else 0
