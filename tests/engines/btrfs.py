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

import anyio
from longshore_core import ContainerSpec, Exit, Limit, Limits
from longshore_core.abc import Runtime

from tests.engines import images

_ROOM: Final = 1 << 30
_LIMIT: Final = 64 << 20
_ESTIMATED: Final = 26 << 20
"""A quarter of the larger image, and a little: so much more it may be."""
_FILLS: Final = "head -c 200000000 /dev/zero > /big; test $(stat -c %s /big) -lt"
"""And says whether it has written less than the number that follows."""


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


async def check_disk_is_limited(runtime: Runtime, shell: Callable[..., ContainerSpec]) -> None:
    """What a sandbox may write does not depend on its image. For an engine that keeps all in such a
    file system, with images BASE and BUSYBOX."""
    assert Limit.DISK in runtime.facts.limits

    async def end(script: str, **given: object) -> Exit:
        handle = await runtime.driver.create(shell(script, **given))
        await runtime.driver.start(handle)
        with anyio.fail_after(60):
            exit_ = await runtime.driver.wait(handle)
        await runtime.driver.remove(handle)
        return exit_

    limited = Limits(disk_bytes=_LIMIT)
    for image in (images.BASE, images.BUSYBOX):
        given = {"image": image.reference, "limits": limited}
        assert await end(f"{_FILLS} {_LIMIT + _ESTIMATED}", **given) == Exit(code=0)
        assert await end(f"{_FILLS} {_LIMIT * 7 // 8}", **given) == Exit(code=1)
    assert await end(f"{_FILLS} 200000000", image=images.BASE.reference) == Exit(code=1)
