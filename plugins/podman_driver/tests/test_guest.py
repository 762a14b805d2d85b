"""The sandbox daemon in images that have nothing for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
from longshore_core import ContainerId, ContainerSpec, Host
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.abc import Guest
from longshore_core.testing.bench import bare_host
from longshore_core.testing.session import open_sandbox
from longshore_core.testing.subject import find_subject

from tests.engines import images

Opener = Callable[..., object]
SHELL = (("/bin/sh", "-c", "echo here"), 0, b"here")
PROGRAM = (("/app/busybox", "echo", "here"), 0, b"here")


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncGenerator[Guest]:
    state = tmp_path / "guest"
    state.mkdir()
    subject = find_subject("sandbox_daemon", kind="guest")
    async with subject.open(bare_host("sandbox_daemon", "w/guest", state)) as opened:
        yield opened


@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
@pytest.mark.parametrize(
    "image",
    [each for each in images.IMAGES if each is not images.FOREIGN],
    ids=lambda image: image.name,
)
async def test_the_daemon_serves_in_any_image(
    open_driver: Opener, guest: Guest, image: images.Image, read_only: bool, owner: str, host: Host
) -> None:
    id_ = ContainerId(f"{owner.partition('/')[0]}-c")
    async with open_driver(read_only=read_only) as runtime:
        spec = ContainerSpec(id=id_, image=image.reference, argv=("none",))
        sandbox = await open_sandbox(
            AdaptedDriver(runtime, find_subject("podman").origin), guest, spec
        )
        if image is images.EMPTY:
            assert (await sandbox.list("/")).status == 200
        else:
            argv, code, words = PROGRAM if image is images.NO_SHELL else SHELL
            done = await sandbox.run(*argv)
            assert (done.code, words in done.stdout + done.stderr) == (code, True)
        await runtime.driver.remove(sandbox.handle)
