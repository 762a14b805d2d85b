"""A limit of disk, on an engine whose storage driver can keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from longshore_core import ContainerSpec
from longshore_core.abc import Host
from longshore_docker import longshore_driver

from tests.engines import images
from tests.engines.btrfs import check_disk_is_limited, mounted_btrfs, require_btrfs
from tests.engines.dockerd import Docker, PrivateDocker

Shell = Callable[..., ContainerSpec]


@pytest.fixture
def engine(require: Callable[[object, str], None], docker_engine: Docker) -> Iterator[Docker]:
    """One that keeps all in such a file system. The other is away meanwhile: two on a host take
    each other's rules away."""
    require(docker_engine.directory is not None, "an engine of the tests' own, to stop and start")
    require_btrfs(require)
    assert docker_engine.directory is not None
    other = PrivateDocker(docker_engine.directory)
    other.stop()
    try:
        with mounted_btrfs("lsd-") as place:
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
        await check_disk_is_limited(runtime, shell)
