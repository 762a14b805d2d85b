"""Whether an engine can limit what a container writes, and how it counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from longshore_podman.answers import Info

_BTRFS: Final = "btrfs"
_PROJECT_QUOTAS: Final = frozenset({"prjquota", "pquota"})
_IN_BLOCKS: Final = 1.25
"""Files take up whole blocks: how much more that is depends on how small they are. What is too much
is room that a container has not asked for; with too little, it could not begin."""


def limits_disk(info: Info, mounts: Iterable[str]) -> bool:
    """`mounts` are the lines of the host's /proc/mounts, none where they cannot be known. Quotas
    are root's to set; overlay has them on xfs alone, when that counts by project."""
    if info.rootless:
        return False
    if info.storage_driver == _BTRFS:
        return True
    if info.storage_driver != "overlay" or info.backing != "xfs":
        return False
    place, options = "", frozenset[str]()
    for line in mounts:
        _, point, _, said, *_ = line.split()
        # Later lines are mounted over earlier ones, and the longest path is the nearest.
        if len(point) >= len(place) and PurePath(info.storage_path).is_relative_to(point):
            place, options = point, frozenset(said.split(","))
    return bool(options & _PROJECT_QUOTAS)


def held_by_image(storage_driver: str, image_bytes: int) -> int:
    """How much of a container's limit its image takes, at most. That of btrfs is for all that a
    subvolume refers to; overlay's is for what was written."""
    return int(image_bytes * _IN_BLOCKS) if storage_driver == _BTRFS else 0
