"""A limit of disk, on an engine whose storage driver can keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import pytest
from longshore_core import ContainerSpec, Exit, Limit, Limits
from longshore_core.abc import Host
from longshore_podman import longshore_driver

from tests.engines import images
from tests.engines.btrfs import mounted_btrfs, require_btrfs
from tests.engines.podman import Podman, PrivatePodman

Shell = Callable[..., ContainerSpec]
LIMIT = 64 << 20
ESTIMATED = 26 << 20
"""A quarter of the larger image, and a little: so much more it may be."""
FILLS = "head -c 200000000 /dev/zero > /big; test $(stat -c %s /big) -lt"
"""And says whether it has written less than the number that follows."""


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
