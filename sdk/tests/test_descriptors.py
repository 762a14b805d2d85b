"""However many sandboxes a program creates and closes, it holds as many descriptors as before."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from longshore import AsyncSandbox, Sandbox

ROOT = Path(__file__).resolve().parents[2]
CYCLES = int(
    os.environ.get("LONGSHORE_SDK_CYCLES") or (2_000 if os.environ.get("LONGSHORE_CI") else 200)
)


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    """Of a server in a process of its own: its descriptors are not ours."""
    command = [sys.executable, "-m", "sdk.tests.standin"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.terminate()


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.timeout(900)
def test_no_descriptor_is_left_of_sandboxes_that_were_closed(api_url: str) -> None:
    def cycle() -> None:
        with Sandbox.create(api_url=api_url) as sandbox:
            # In the middle of an answer that does not end.
            assert next(iter(sandbox.start("yes"))).data == b"y\n"

    cycle()
    before = descriptors()
    for _ in range(CYCLES):
        cycle()
    assert descriptors() <= before


@pytest.mark.timeout(900)
def test_no_descriptor_is_left_of_sandboxes_that_were_closed_by_awaiting(api_url: str) -> None:
    async def cycle() -> None:
        async with await AsyncSandbox.create(api_url=api_url) as sandbox:
            process = await sandbox.start("yes")
            async for chunk in process:
                assert chunk.data == b"y\n"
                break

    async def main() -> tuple[int, int]:
        await cycle()
        before = descriptors()
        for _ in range(CYCLES):
            await cycle()
        return before, descriptors()

    before, after = anyio.run(main)
    assert after <= before
