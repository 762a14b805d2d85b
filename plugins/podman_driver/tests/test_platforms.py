"""Whose programs a host can run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from longshore_core import ContainerSpec, ImageError
from longshore_core.abc import Runtime
from longshore_podman.platforms import can_run, is_same

from tests.engines import images


@pytest.mark.parametrize(
    ("platform", "native", "runs"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/386", "linux/amd64", True),
        ("linux/arm64", "linux/amd64", True),
        ("linux/s390x", "linux/amd64", False),
        ("linux/amd64", "linux/arm64", False),
    ],
)
def test_a_host_runs_its_own_and_what_it_has_an_emulator_for(
    platform: str, native: str, runs: bool, tmp_path: Path
) -> None:
    (tmp_path / "qemu-aarch64").touch()
    assert can_run(platform, native, tmp_path) is runs


def test_a_variant_makes_no_other_platform() -> None:
    assert is_same("linux/arm64/v8", "linux/arm64")
    assert not is_same("linux/arm64", "linux/amd64")


async def test_a_platform_that_the_host_cannot_run_is_refused_with_what_to_install(
    open_driver: Callable[..., AbstractAsyncContextManager[Runtime]],
    shell: Callable[..., ContainerSpec],
) -> None:
    words = r"no programs of linux/mips64le \(driver\.platform\): install qemu-user-static, or use"
    async with open_driver(platform="linux/mips64le") as runtime:
        with pytest.raises(ImageError, match=words):
            await runtime.driver.create(shell(image=images.FOREIGN.reference))
        assert await runtime.driver.survey() == []
