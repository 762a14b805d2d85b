"""Beside the driver's six methods: pause, usage, logs, exec, health, on a real engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from signal import SIGKILL

import anyio
import pytest
from longshore_core import BackendError, ContainerSpec, Exit, Handle
from longshore_core.abc import Runtime

from tests.engines import images

Shell = Callable[..., ContainerSpec]


async def run(runtime: Runtime, spec: ContainerSpec) -> Handle:
    handle = await runtime.driver.create(spec)
    await runtime.driver.start(handle)
    return handle


async def test_what_the_engine_can_do_is_declared(runtime: Runtime) -> None:
    declared = (runtime.images, runtime.health, runtime.pause, runtime.usage, runtime.logs)
    assert None not in (*declared, runtime.exec)


async def test_what_is_paused_stands_still_and_goes_on(runtime: Runtime, shell: Shell) -> None:
    assert runtime.pause is not None
    handle = await run(runtime, shell())
    for _ in range(2):
        await runtime.pause.pause(handle)
    for _ in range(2):
        await runtime.pause.resume(handle)
    await runtime.driver.signal(handle, SIGKILL)
    assert await runtime.driver.wait(handle) == Exit(signal=SIGKILL)
    with pytest.raises(BackendError, match="does not run"):
        await runtime.pause.pause(handle)


async def test_logs_can_be_followed_to_the_end_and_read_from_an_offset(
    runtime: Runtime, shell: Shell
) -> None:
    assert runtime.logs is not None
    handle = await run(runtime, shell("echo one; echo two >&2; sleep 0.1; printf three"))
    with anyio.fail_after(10):
        async with runtime.logs.logs(handle, follow=True) as chunks:
            whole = b"".join([chunk.data async for chunk in chunks])
    assert sorted(whole.split()) == [b"one", b"three", b"two"]
    assert not whole.endswith(b"\n")
    async with runtime.logs.logs(handle, offset=5) as chunks:
        read = [chunk async for chunk in chunks]
    assert b"".join(chunk.data for chunk in read) == whole[5:]
    assert read[0].offset == 5


async def test_following_a_log_can_be_cut_short(runtime: Runtime, shell: Shell) -> None:
    assert runtime.logs is not None
    handle = await run(runtime, shell("echo one; exec sleep 1000"))
    with anyio.fail_after(10):
        async with runtime.logs.logs(handle, follow=True) as chunks:
            assert (await anext(chunks)).data == b"one\n"
        with anyio.move_on_after(0.2) as scope:
            async with runtime.logs.logs(handle, offset=4, follow=True) as chunks:
                await anext(chunks)
    assert scope.cancelled_caught


async def test_usage_is_of_what_runs(runtime: Runtime, shell: Shell) -> None:
    assert runtime.usage is not None
    handle = await run(runtime, shell())
    usage = await runtime.usage.usage(handle)
    assert (usage.pids, (usage.memory_bytes or 0) > 0) == (1, True)
    await runtime.driver.signal(handle, SIGKILL)
    await runtime.driver.wait(handle)
    with pytest.raises(BackendError, match="does not run"):
        await runtime.usage.usage(handle)


async def test_a_program_beside_pid_1_takes_input_and_leaves_a_code(
    runtime: Runtime, shell: Shell
) -> None:
    assert runtime.exec is not None
    handle = await run(runtime, shell())
    script = 'echo "$A in $PWD"; cat; exit 5'
    argv = ("sh", "-c", script)
    async with runtime.exec.run(handle, argv, env={"A": "b c"}, cwd="/tmp") as process:
        await process.send(b"bytes\x00\xff")
        await process.send_eof()
        data = b"".join([chunk.data async for chunk in process.output()])
        assert await process.wait() == 5
    assert data == b"b c in /tmp\nbytes\x00\xff"


async def test_a_program_that_cannot_be_run_ends_as_in_a_shell(
    runtime: Runtime, shell: Shell
) -> None:
    assert runtime.exec is not None
    handle = await run(runtime, shell())
    async with runtime.exec.run(handle, ["/nonexistent"], env={}) as process:
        assert await process.wait() == 127


async def test_a_fingerprint_has_version_free_resources_and_images(runtime: Runtime) -> None:
    assert runtime.health is not None
    async with runtime.health.fingerprints() as prints:
        first = await anext(prints)
    assert first.healthy
    assert first.engine.startswith("Podman 4") or first.engine.startswith("Podman 5")
    assert images.BUSYBOX.reference in first.images
    assert (first.free.memory_bytes or 0) > 0
    assert first.free.cpu_millis == (os.cpu_count() or 0) * 1000
