"""A limit of disk, on an engine whose storage driver can keep it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from longshore_core import ContainerSpec, Exit, Limit, Limits
from longshore_core.abc import Host
from longshore_docker import longshore_driver

from tests.engines import images
from tests.engines.dockerd import Docker, PrivateDocker

Shell = Callable[..., ContainerSpec]
ROOM = 1 << 30
LIMIT = 64 << 20
ESTIMATED = 26 << 20
"""A quarter of the larger image, and a little: so much more it may be."""
FILLS = "head -c 200000000 /dev/zero > /big; test $(stat -c %s /big) -lt"
"""And says whether it has written less than the number that follows."""


@contextmanager
def btrfs() -> Iterator[Path]:
    """A file system of one's own."""
    with tempfile.TemporaryDirectory(prefix="lsd-") as directory:
        image, place = Path(directory, "disk"), Path(directory, "m")
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(ROOM)
        subprocess.run(["mkfs.btrfs", "--quiet", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def engine(require: Callable[[object, str], None], docker_engine: Docker) -> Iterator[Docker]:
    """One that keeps all in such a file system. The other is away meanwhile: two on a host take
    each other's rules away."""
    require(docker_engine.directory is not None, "an engine of the tests' own, to stop and start")
    require(shutil.which("mkfs.btrfs"), "btrfs-progs: sudo tests/engines/install.sh")
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--all", "btrfs", "loop"], capture_output=True, check=False)
    known = "btrfs" in Path("/proc/filesystems").read_text()
    require(known and os.path.exists("/dev/loop-control"), "a kernel with btrfs and loop devices")
    assert docker_engine.directory is not None
    other = PrivateDocker(docker_engine.directory)
    other.stop()
    try:
        with btrfs() as place:
            own = PrivateDocker(place / "engine", storage="btrfs")
            own.directory.mkdir()
            try:
                own.start()
                for image in (images.BASE, images.BUSYBOX):
                    own.docker.load(image)
                yield own.docker
            finally:
                own.remove()
    finally:
        other.start()


async def test_what_a_sandbox_may_write_does_not_depend_on_its_image(
    engine: Docker, host: Host, shell: Shell
) -> None:
    plug = longshore_driver()
    config = plug.config.model_validate({"address": engine.address, "ready_networks": 0})
    async with plug.open(config, host) as runtime:
        assert Limit.DISK in runtime.facts.limits

        async def end(script: str, **given: object) -> Exit:
            handle = await runtime.driver.create(shell(script, **given))
            await runtime.driver.start(handle)
            with anyio.fail_after(60):
                exit_ = await runtime.driver.wait(handle)
            await runtime.driver.remove(handle)
            return exit_

        limited = Limits(disk_bytes=LIMIT)
        for image in (images.BASE, images.BUSYBOX):
            given = {"image": image.reference, "limits": limited}
            assert await end(f"{FILLS} {LIMIT + ESTIMATED}", **given) == Exit(code=0)
            assert await end(f"{FILLS} {LIMIT * 7 // 8}", **given) == Exit(code=1)
        assert await end(f"{FILLS} 200000000", image=images.BASE.reference) == Exit(code=1)
