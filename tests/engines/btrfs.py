"""A file system that can hold containers to limits of disk, where the kernel knows it: btrfs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ROOM: Final = 1 << 30


def require_btrfs(require: Callable[[object, str], None]) -> None:
    """Skip, or fail in CI, where there is none."""
    require(os.geteuid() == 0, "root, to mount btrfs")
    require(shutil.which("mkfs.btrfs"), "btrfs-progs: sudo tests/engines/install.sh")
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--all", "btrfs", "loop"], capture_output=True, check=False)
    known = "btrfs" in Path("/proc/filesystems").read_text()
    require(known and os.path.exists("/dev/loop-control"), "a kernel with btrfs and loop devices")


@contextmanager
def mounted_btrfs(prefix: str) -> Iterator[Path]:
    """An empty one, of 1 GiB, in a directory for temporary files."""
    with tempfile.TemporaryDirectory(prefix=prefix) as directory:
        image, place = Path(directory, "disk"), Path(directory, "m")
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(_ROOM)
        subprocess.run(["mkfs.btrfs", "--quiet", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
