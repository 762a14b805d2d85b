"""The life of one container: created, started, ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import anyio
import pytest
from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    ContainerSpec,
    Exit,
    Handle,
    Limit,
    Limits,
    Phase,
    UnixReach,
    UnsupportedCapability,
)
from longshore_core.abc import Driver, Runtime

FOREVER = "exec sleep 1000"


@pytest.mark.parametrize("code", [0, 1, 43, 255])
async def test_an_exit_code_is_reported(driver: Driver, shell, code: int) -> None:
    handle = await driver.create(shell("c", f"exit {code}"))
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
async def test_a_signal_reaches_pid_1_and_is_reported(driver: Driver, shell, number) -> None:
    handle = await driver.create(shell("c", FOREVER))
    await driver.start(handle)
    await driver.signal(handle, number)
    assert await driver.wait(handle) == Exit(signal=number)


async def test_a_code_that_looks_like_a_signal_stays_a_code(driver: Driver, shell) -> None:
    handle = await driver.create(shell("c", "exit 137"))
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=137)


async def test_running_out_of_memory_is_told_from_being_killed(runtime: Runtime) -> None:
    if Limit.MEMORY not in runtime.facts.limits:
        pytest.skip("no memory controller here")
    driver = runtime.driver
    script = "hoard = bytearray(200 << 20)\nfor i in range(0, len(hoard), 4096): hoard[i] = 1"
    spec = ContainerSpec(
        id=ContainerId("c"),
        argv=(sys.executable, "-c", script),
        limits=Limits(memory_bytes=64 << 20),
    )
    handle = await driver.create(spec)
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(signal=signal.SIGKILL, oom=True)


async def test_a_limit_of_processes_holds(runtime: Runtime, shell, state_dir: Path) -> None:
    if Limit.PIDS not in runtime.facts.limits:
        pytest.skip("no pids controller here")
    driver = runtime.driver
    many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; exit 0"
    handle = await driver.create(shell("c", many, limits=Limits(pids=5)))
    await driver.start(handle)
    assert await driver.wait(handle) != Exit(code=0)
    assert "fork" in (state_dir / "c" / "stderr").read_text().lower()


async def test_one_that_asks_for_no_limit_of_processes_has_the_configs(
    open_driver, shell, state_dir: Path
) -> None:
    async with open_driver(pids_limit=5) as runtime:
        if Limit.PIDS not in runtime.facts.limits:
            pytest.skip("no pids controller here")
        many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; exit 0"
        handle = await runtime.driver.create(shell("c", many))
        await runtime.driver.start(handle)
        assert await runtime.driver.wait(handle) != Exit(code=0)
        await runtime.driver.remove(handle)


async def test_a_limit_of_cores_is_put_in_force(runtime: Runtime, shell, traces) -> None:
    if Limit.CPU not in runtime.facts.limits:
        pytest.skip("no cpu controller here")
    driver = runtime.driver
    handle = await driver.create(shell("c", FOREVER, limits=Limits(cpu_millis=250)))
    await driver.start(handle)
    groups = traces.groups("c")
    values = {
        path.read_text().strip()
        for name in ("cpu.max", "cpu.cfs_quota_us")
        for path in (Path(group, name) for group in groups)
        if path.exists()
    }
    assert values & {"25000", "25000 100000"}


async def test_a_limit_that_cannot_be_enforced_is_refused(driver: Driver, shell) -> None:
    with pytest.raises(UnsupportedCapability, match="fork_exec cannot limit disk on this host"):
        await driver.create(shell("c", "true", limits=Limits(disk_bytes=1 << 20)))
    assert await driver.survey() == []


async def test_without_cgroups_no_limit_is_declared(open_driver) -> None:
    async with open_driver(cgroup="off") as runtime:
        assert runtime.facts.limits == frozenset()


async def test_its_output_is_kept_in_files(driver: Driver, shell, state_dir: Path) -> None:
    handle = await driver.create(shell("c", "echo said; echo complained >&2"))
    await driver.start(handle)
    await driver.wait(handle)
    assert (state_dir / "c" / "stdout").read_text() == "said\n"
    assert (state_dir / "c" / "stderr").read_text() == "complained\n"


async def test_it_reads_nothing(driver: Driver, shell) -> None:
    handle = await driver.create(shell("c", "read line && exit 1; exit 0"))
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=0)


async def test_it_works_and_lives_in_a_directory_of_its_own(driver, shell, state_dir) -> None:
    handle = await driver.create(shell("c", 'pwd; echo "$HOME"'))
    await driver.start(handle)
    await driver.wait(handle)
    work = str(state_dir / "c" / "work")
    assert (state_dir / "c" / "stdout").read_text().split() == [work, work]


async def test_it_works_where_it_was_told_to(driver, shell, state_dir, tmp_path) -> None:
    handle = await driver.create(shell("c", "pwd", cwd=str(tmp_path)))
    await driver.start(handle)
    await driver.wait(handle)
    assert (state_dir / "c" / "stdout").read_text().strip() == str(tmp_path)


async def test_it_inherits_the_environment_less_what_is_private(
    driver, state_dir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "green")
    monkeypatch.setenv("LONGSHORE_TOKEN_FILE", "private")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "private")
    monkeypatch.setenv("PYTHONPATH", "private")
    spec = ContainerSpec(id=ContainerId("c"), argv=("env",), env={"SHAPE": "round"})
    handle = await driver.create(spec)
    await driver.start(handle)
    await driver.wait(handle)
    seen = (state_dir / "c" / "stdout").read_text().splitlines()
    assert {"COLOUR=green", "SHAPE=round"} <= set(seen)
    assert f"LONGSHORE_CONTAINER=worker-1/driver:{state_dir}/c" in seen
    assert not [line for line in seen if line.endswith("=private")]


async def test_it_finds_a_python_whatever_the_host_has(
    driver, state_dir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    spec = ContainerSpec(id=ContainerId("c"), argv=("python", "-c", "print('here')"))
    handle = await driver.create(spec)
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=0)


async def test_its_signals_are_those_of_a_fresh_process(driver, shell, state_dir) -> None:
    handle = await driver.create(shell("c", "grep -E 'Sig(Blk|Ign)' /proc/self/status"))
    await driver.start(handle)
    await driver.wait(handle)
    masks = [line.split()[1] for line in (state_dir / "c" / "stdout").read_text().splitlines()]
    # The C library keeps 32 and 33 to itself, and sets them whenever it needs them.
    assert [int(mask, 16) & ~(0b11 << 31) for mask in masks] == [0, 0]


async def test_it_holds_no_descriptor_of_the_worker(driver, shell, state_dir, tmp_path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        handle = await driver.create(shell("c", "ls -l /proc/self/fd"))
        await driver.start(handle)
        await driver.wait(handle)
    output = (state_dir / "c" / "stdout").read_text()
    assert "secret" not in output
    assert "pipe:" not in output


async def test_resource_limits_of_the_config_apply(open_driver, shell, state_dir) -> None:
    async with open_driver(rlimits={"nofile": 77}) as runtime:
        handle = await runtime.driver.create(shell("c", "ulimit -n"))
        await runtime.driver.start(handle)
        await runtime.driver.wait(handle)
        assert (state_dir / "c" / "stdout").read_text().strip() == "77"
        await runtime.driver.remove(handle)


async def test_it_gets_a_directory_for_sockets(driver, shell, state_dir) -> None:
    handle = await driver.create(shell("c", 'stat -c %a "$LONGSHORE_SOCKETS"', sockets=True))
    attachment = await driver.start(handle)
    await driver.wait(handle)
    directory = str(state_dir / "c" / "s")
    assert attachment == Attachment(reach=UnixReach(directory), image_applied=False)
    assert (state_dir / "c" / "stdout").read_text().strip() == "700"


async def test_it_gets_no_such_directory_unasked(driver, shell) -> None:
    handle = await driver.create(shell("c", '[ -z "$LONGSHORE_SOCKETS" ]'))
    assert await driver.start(handle) == Attachment(image_applied=False)
    assert await driver.wait(handle) == Exit(code=0)


async def test_many_may_wait_and_after_the_end_too(driver, shell) -> None:
    handle = await driver.create(shell("c", FOREVER))
    await driver.start(handle)
    exits = list[Exit]()

    async def wait() -> None:
        exits.append(await driver.wait(handle))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await driver.signal(handle, signal.SIGKILL)
    assert exits == [Exit(signal=9)] * 5
    assert await driver.wait(handle) == Exit(signal=9)


async def test_a_waiter_that_is_cancelled_disturbs_no_other(driver, shell) -> None:
    handle = await driver.create(shell("c", FOREVER))
    await driver.start(handle)
    exits = list[Exit]()

    async def wait(scope: anyio.CancelScope) -> None:
        with scope:
            exits.append(await driver.wait(handle))

    scopes = [anyio.CancelScope() for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for scope in scopes:
            tasks.start_soon(wait, scope)
        await anyio.wait_all_tasks_blocked()
        # The first watches for all, and the third waits in the middle.
        scopes[0].cancel()
        scopes[2].cancel()
        await anyio.wait_all_tasks_blocked()
        await driver.signal(handle, signal.SIGKILL)
    assert exits == [Exit(signal=9)] * 2


async def test_fifty_waits_need_no_thread_and_one_descriptor_each(driver, shell, traces) -> None:
    handles = [await driver.create(shell(f"c{i}", FOREVER)) for i in range(50)]
    for handle in handles:
        await driver.start(handle)
    threads, descriptors = threading.active_count(), len(traces.descriptors())
    async with anyio.create_task_group() as tasks:
        for handle in handles * 2:
            tasks.start_soon(driver.wait, handle)
        await anyio.wait_all_tasks_blocked()
        assert threading.active_count() <= threads
        assert len(traces.descriptors()) <= descriptors + 50
        tasks.cancel_scope.cancel()
    assert len(traces.descriptors()) == descriptors


async def test_the_same_id_twice_at_once_is_one_container(driver, shell) -> None:
    handles = list[Handle]()

    async def create() -> None:
        handles.append(await driver.create(shell("c", FOREVER)))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(create)
    assert handles == [handles[0]] * 5
    assert len(await driver.survey()) == 1


async def test_starting_twice_at_once_runs_it_once(driver, shell, tmp_path) -> None:
    log = tmp_path / "log"
    log.touch()
    handle = await driver.create(shell("c", f"echo ran >> {log}; {FOREVER}", sockets=True))
    answers = list[Attachment]()

    async def start() -> None:
        answers.append(await driver.start(handle))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(start)
    assert answers == [answers[0]] * 3
    await driver.remove(handle)
    assert log.read_text().splitlines() in ([], ["ran"])


async def test_what_has_ended_does_not_start_again(driver, shell) -> None:
    handle = await driver.create(shell("c", "true"))
    await driver.start(handle)
    await driver.wait(handle)
    with pytest.raises(BackendError, match="container c has ended and starts only once"):
        await driver.start(handle)


async def test_what_does_not_exist_cannot_start(driver) -> None:
    with pytest.raises(BackendError, match="there is no container c to start"):
        await driver.start(Handle(id=ContainerId("c")))


@pytest.mark.parametrize("created", [True, False])
async def test_what_was_not_started_cannot_be_waited_for(driver, shell, created) -> None:
    if created:
        await driver.create(shell("c", "true"))
    with pytest.raises(BackendError, match="container c does not run, so that it cannot end"):
        await driver.wait(Handle(id=ContainerId("c")))


async def test_whatever_does_not_run_swallows_a_signal(driver, shell) -> None:
    handle = Handle(id=ContainerId("c"))
    await driver.signal(handle, signal.SIGTERM)
    await driver.create(shell("c", "true"))
    await driver.signal(handle, signal.SIGTERM)
    await driver.start(handle)
    await driver.wait(handle)
    await driver.signal(handle, signal.SIGTERM)
    await driver.remove(handle)
    await driver.signal(handle, signal.SIGTERM)


@pytest.mark.parametrize("id_", ["", ".", "..", ".hidden", "a/b", "a\0b", "a\nb", "ä", "x" * 129])
async def test_an_id_that_is_no_plain_file_name_is_refused(driver, shell, id_: str) -> None:
    with pytest.raises(BackendError, match="cannot name a directory"):
        await driver.create(shell(id_, "true"))
    with pytest.raises(BackendError, match="cannot name a directory"):
        await driver.remove(Handle(id=ContainerId(id_)))


async def test_the_survey_tells_each_phase(driver, shell) -> None:
    for name, script in (("a", "true"), ("b", FOREVER), ("c", "exit 3")):
        await driver.create(shell(name, script, sockets=True))
    attachment = await driver.start(Handle(id=ContainerId("b")))
    await driver.start(Handle(id=ContainerId("c")))
    await driver.wait(Handle(id=ContainerId("c")))
    found = {each.id: each for each in await driver.survey()}
    assert {id_: each.phase for id_, each in found.items()} == {
        "a": Phase.CREATED,
        "b": Phase.RUNNING,
        "c": Phase.EXITED,
    }
    assert found["b"].attachment == attachment
    assert found["c"].exit == Exit(code=3)
    assert [each.handle.id for each in found.values()] == list(found)


async def test_two_owners_never_see_each_other(open_driver, shell) -> None:
    async with open_driver("one") as first, open_driver("two") as second:
        mine = await first.driver.create(shell("mine", FOREVER))
        await first.driver.start(mine)
        assert await second.driver.survey() == []
        await second.driver.remove(mine)
        await second.driver.signal(mine, signal.SIGKILL)
        with pytest.raises(BackendError, match="container mine exists and belongs to one"):
            await second.driver.create(shell("mine", "true"))
        assert [each.phase for each in await first.driver.survey()] == [Phase.RUNNING]
        await first.driver.remove(mine)


async def test_a_handle_from_a_later_release_is_refused(driver) -> None:
    with pytest.raises(BackendError, match="has schema 2; this driver knows 1"):
        await driver.start(Handle(id=ContainerId("c"), schema=2))
