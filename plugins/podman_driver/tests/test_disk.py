"""A limit of disk, on an engine whose storage driver can keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from longshore_core import ContainerSpec
from longshore_core.abc import Host
from longshore_podman import longshore_driver

from tests.engines import images
from tests.engines.btrfs import check_disk_is_limited, mounted_btrfs, require_btrfs
from tests.engines.podman import Podman, PrivatePodman

Shell = Callable[..., ContainerSpec]


@pytest.fixture
def engine(require: Callable[[object, str], None], podman_engine: Podman) -> Iterator[Podman]:
    """One that keeps all in such a file system, beside the other: their containers have no network
    to share."""
    require(podman_engine.directory is not None, "an engine of the tests' own")
    require_btrfs(require)
    with mounted_btrfs("lsp-") as place:
        own = PrivatePodman(place / "engine", storage="btrfs")
        own.directory.mkdir()
        try:
            own.start()
            for image in (images.BASE, images.BUSYBOX):
                own.podman.load(image)
            yield own.podman
        finally:
            own.remove()


async def test_what_a_sandbox_may_write_does_not_depend_on_its_image(
    engine: Podman, host: Host, shell: Shell
) -> None:
    plug = longshore_driver()
    config = plug.config.model_validate({"address": engine.address, "network": "none"})
    async with plug.open(config, host) as runtime:
        await check_disk_is_limited(runtime, shell)
