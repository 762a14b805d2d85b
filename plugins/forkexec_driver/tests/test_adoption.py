"""Containers outlive the worker, and the next one finds them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import longshore_forkexec
import pytest
from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    EngineUnavailable,
    Exit,
    Handle,
    Phase,
    UnixReach,
)
from longshore_forkexec.records import Directory

FOREVER = "exec sleep 1000"
HANDLE = Handle(id=ContainerId("c"))

WORKER = """
import anyio, logging, sys
from pathlib import Path
from longshore_core import ContainerId, ContainerSpec, Host
from longshore_forkexec import longshore_driver

async def main(state_dir, cgroup, script):
    plug = longshore_driver()
    host = Host(name="fork_exec", owner="worker-1/driver", state_dir=Path(state_dir),
                logger=logging.getLogger(), transitions=lambda: None)
    async with plug.open(plug.config(cgroup=cgroup), host) as runtime:
        spec = ContainerSpec(id=ContainerId("c"), argv=("/bin/sh", "-c", script), sockets=True)
        await runtime.driver.start(await runtime.driver.create(spec))
        print("started", flush=True)
        await anyio.sleep_forever()

anyio.run(main, *sys.argv[1:])
"""


async def kill_a_worker_that_runs(script: str, state_dir: Path, cgroup: str) -> None:
    """Let a worker start container `c`, and kill it without a warning."""
    command = [sys.executable, "-c", WORKER, str(state_dir), cgroup, script]
    path = os.pathsep.join(filter(None, sys.path))
    process = await anyio.open_process(command, env={**os.environ, "PYTHONPATH": path}, stderr=None)
    try:
        with anyio.fail_after(20):
            assert (await process.stdout.receive()).startswith(b"started")
    finally:
        process.kill()
        await process.aclose()


async def test_a_restarted_driver_finds_the_same_process_and_its_exit_code(
    open_driver, shell, fifo, state_dir
) -> None:
    async with open_driver() as runtime:
        await runtime.driver.create(shell("c", f"read code < {fifo.path}; exit $code"))
        attachment = await runtime.driver.start(HANDLE)
        life = Directory(state_dir / "c").life()
    async with open_driver() as runtime:
        (found,) = await runtime.driver.survey()
        assert (found.handle, found.phase, found.attachment) == (HANDLE, Phase.RUNNING, attachment)
        assert await runtime.driver.start(HANDLE) == attachment
        assert Directory(state_dir / "c").life() == life
        await anyio.to_thread.run_sync(fifo.path.write_text, "43\n")
        assert await runtime.driver.wait(HANDLE) == Exit(code=43)
        await runtime.driver.remove(HANDLE)


async def test_a_container_survives_the_kill_of_its_worker(
    open_driver, state_dir, cgroup, fifo, traces
) -> None:
    await kill_a_worker_that_runs(f"read code < {fifo.path}; exit $code", state_dir, cgroup)
    life = Directory(state_dir / "c").life()
    async with open_driver() as runtime:
        (found,) = await runtime.driver.survey()
        assert found.phase is Phase.RUNNING
        reach = UnixReach(str(state_dir / "c" / "s"))
        assert found.attachment == Attachment(reach=reach, image_applied=False)
        assert Directory(state_dir / "c").life() == life
        await anyio.to_thread.run_sync(fifo.path.write_text, "44\n")
        assert await runtime.driver.wait(HANDLE) == Exit(code=44)
        await runtime.driver.remove(HANDLE)
    traces.assert_none("c")


async def test_a_container_of_a_killed_worker_can_be_removed(
    open_driver, state_dir, cgroup, traces
) -> None:
    await kill_a_worker_that_runs("setsid sleep 1000 & exec sleep 1000", state_dir, cgroup)
    async with open_driver() as runtime:
        await runtime.driver.remove(HANDLE)
    traces.assert_none("c")


async def test_an_exit_that_nobody_watched_is_found(open_driver, state_dir, cgroup, fifo) -> None:
    await kill_a_worker_that_runs(f"read code < {fifo.path}; exit $code", state_dir, cgroup)
    shim = Directory(state_dir / "c").life().shim
    await anyio.to_thread.run_sync(fifo.path.write_text, "45\n")
    descriptor = os.pidfd_open(shim.pid)
    with anyio.fail_after(10):
        await anyio.wait_readable(descriptor)
    os.close(descriptor)
    async with open_driver() as runtime:
        (found,) = await runtime.driver.survey()
        assert (found.phase, found.exit) == (Phase.EXITED, Exit(code=45))
        assert await runtime.driver.wait(HANDLE) == Exit(code=45)
        await runtime.driver.remove(HANDLE)


async def test_a_worker_killed_at_any_moment_of_a_start_loses_nothing(
    open_driver, state_dir, cgroup, traces
) -> None:
    for milliseconds in range(0, 60, 10):
        command = [sys.executable, "-c", WORKER, str(state_dir), cgroup, FOREVER]
        path = os.pathsep.join(filter(None, sys.path))
        worker = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=-3)
        with anyio.fail_after(20):
            while not (state_dir / "c" / "launch.json").exists():
                await anyio.sleep(0.001)
        await anyio.sleep(milliseconds / 1000)
        worker.kill()
        worker.wait()
        async with open_driver() as runtime:
            # Whether it runs already or not: it is the same container, and it runs once.
            await runtime.driver.start(HANDLE)
            (found,) = await runtime.driver.survey()
            assert found.phase is Phase.RUNNING
            await runtime.driver.remove(HANDLE)
        # The killed worker's launcher may have begun only now, and finds nothing to be done.
        await traces.vanish()
        traces.assert_none("c")


def forge(state_dir: Path, **changes: object) -> None:
    path = state_dir / "c" / "life.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


async def test_another_process_under_the_pid_is_not_taken_for_the_container(
    driver, shell, state_dir
) -> None:
    await driver.create(shell("c", FOREVER))
    await driver.start(HANDLE)
    life = Directory(state_dir / "c").life()
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        stranger = {"pid": bystander.pid, "start": life.main.start - 1}
        forge(state_dir, shim=stranger, main=stranger)
        (found,) = await driver.survey()
        assert (found.phase, found.exit) == (Phase.EXITED, Exit())
        assert await driver.wait(HANDLE) == Exit()
        await driver.signal(HANDLE, signal.SIGKILL)
        await driver.remove(HANDLE)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


async def test_after_the_host_has_restarted_all_have_ended_unseen(driver, shell, state_dir) -> None:
    await driver.create(shell("c", "true"))
    await driver.start(HANDLE)
    await driver.wait(HANDLE)
    (state_dir / "c" / "exit.json").unlink()
    forge(state_dir, boot="another")
    (found,) = await driver.survey()
    assert (found.phase, found.exit) == (Phase.EXITED, Exit())
    assert await driver.wait(HANDLE) == Exit()


@pytest.mark.parametrize("torn", [b"", b"\0" * 40])
async def test_a_record_that_a_loss_of_power_took_is_an_end_unseen(
    driver, shell, state_dir, torn
) -> None:
    await driver.create(shell("c", "true"))
    await driver.start(HANDLE)
    await driver.wait(HANDLE)
    (state_dir / "c" / "exit.json").unlink()
    (state_dir / "c" / "life.json").write_bytes(torn)
    assert [each.exit for each in await driver.survey()] == [Exit()]


async def test_a_record_that_cannot_be_understood_is_not_taken_for_an_end(
    driver, shell, state_dir
) -> None:
    await driver.create(shell("c", "true"))
    path = state_dir / "c" / "spec.json"
    kept = path.read_text()
    path.write_text(kept.replace('"version":1', '"version":2'))
    with pytest.raises(EngineUnavailable, match=r"spec\.json cannot be understood"):
        await driver.survey()
    with pytest.raises(BackendError, match=r"spec\.json cannot be understood"):
        await driver.remove(HANDLE)
    path.write_text(kept)


async def test_records_of_the_first_release_are_read(open_driver, state_dir) -> None:
    golden = Path(__file__).parent / "golden" / "records-1"
    for source in golden.iterdir():
        target = state_dir / "c" / source.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.read_bytes())
    async with open_driver() as runtime:
        (found,) = await runtime.driver.survey()
        assert (found.id, found.phase, found.exit) == ("c", Phase.EXITED, Exit(code=43))
        await runtime.driver.remove(found.handle)
        assert await runtime.driver.survey() == []


def test_the_shim_is_shipped_as_a_file() -> None:
    assert (Path(longshore_forkexec.__file__).parent / "shim.py").is_file()
