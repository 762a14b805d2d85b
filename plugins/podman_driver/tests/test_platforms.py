"""Images for other machines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from longshore_core import ContainerSpec, ImageError
from longshore_core.abc import Runtime

from tests.engines import images


async def test_a_platform_that_the_host_cannot_run_is_refused_with_what_to_install(
    open_driver: Callable[..., AbstractAsyncContextManager[Runtime]],
    shell: Callable[..., ContainerSpec],
) -> None:
    words = r"no programs of linux/mips64le \(driver\.platform\): install qemu-user-static, or use"
    async with open_driver(platform="linux/mips64le") as runtime:
        with pytest.raises(ImageError, match=words):
            await runtime.driver.create(shell(image=images.FOREIGN.reference))
        assert await runtime.driver.survey() == []
