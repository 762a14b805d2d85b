"""What is left of a container when it is removed, or does not come about: nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import longshore_forkexec.driver
import pytest
from longshore_core import BackendError, ContainerId, ContainerSpec, Exit, Handle, Phase
from longshore_core.abc import Driver
from longshore_forkexec.processes import is_alive
from longshore_forkexec.records import Directory

FOREVER = "exec sleep 1000"

# A daemon of the old school, in its own session, and deaf to what asks it to end.
DAEMON = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {change}
        open(sys.argv[1], "w").write(str(os.getpid()))
        signal.pause()
    os._exit(0)
os.wait()
signal.pause()
"""


def daemon(fifo, change: str = "pass") -> ContainerSpec:
    argv = (sys.executable, "-c", DAEMON.format(change=change), str(fifo.path))
    return ContainerSpec(id=ContainerId("c"), argv=argv)


async def test_removal_leaves_nothing_and_may_be_repeated(driver, shell, traces) -> None:
    before = traces.descriptors()
    handle = await driver.create(shell("c", f"touch made; {FOREVER}", sockets=True))
    await driver.start(handle)
    for _ in range(3):
        await driver.remove(handle)
        traces.assert_none("c")
    assert traces.descriptors() == before


async def test_closing_the_driver_leaves_no_group(open_driver, shell, traces) -> None:
    async with open_driver() as runtime:
        handle = await runtime.driver.create(shell("c", FOREVER))
        await runtime.driver.start(handle)
        own = {Path(group).parent for group in traces.groups("c")}
        await runtime.driver.remove(handle)
    assert [group for group in own if group.exists()] == []


@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.RUNNING, Phase.EXITED])
async def test_it_can_be_removed_from_any_phase_by_its_id_alone(
    driver, shell, traces, phase
) -> None:
    handle = await driver.create(shell("c", FOREVER))
    if phase is not Phase.CREATED:
        await driver.start(handle)
    if phase is Phase.EXITED:
        await driver.signal(handle, signal.SIGKILL)
        await driver.wait(handle)
    await driver.remove(Handle(id=ContainerId("c")))
    traces.assert_none("c")
    assert await driver.survey() == []


async def test_what_runs_without_its_directory_is_ended_all_the_same(
    driver, shell, fifo, traces, is_gone, state_dir
) -> None:
    handle = await driver.create(shell("c", f"echo $$ > {fifo.path}; {FOREVER}"))
    await driver.start(handle)
    pid = await fifo.hear()
    (directory,) = state_dir.rglob("c")
    life = Directory(directory).life()
    assert life is not None
    shutil.rmtree(directory)
    for _ in range(2):
        await driver.remove(handle)
        assert is_gone(pid)
        assert not is_alive(life.shim)  # which may have fallen over what it missed before
        traces.assert_none("c")


async def test_the_id_is_free_after_removal(driver, shell) -> None:
    for code in (1, 2):
        handle = await driver.create(shell("c", f"exit {code}"))
        await driver.start(handle)
        assert await driver.wait(handle) == Exit(code=code)
        await driver.remove(handle)


@pytest.mark.parametrize(
    "change",
    ["pass", "os.execve(sys.executable, [sys.executable, '-c', sys.argv[2], sys.argv[1]], {})"],
    ids=["as it is", "without its environment"],
)
async def test_a_daemon_dies_with_its_container(driver, fifo, traces, is_gone, change) -> None:
    speak = "import os, sys, signal; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
    spec = daemon(fifo, change)
    spec = ContainerSpec(id=spec.id, argv=(*spec.argv, speak))
    handle = await driver.create(spec)
    await driver.start(handle)
    pid = await fifo.hear()
    assert not is_gone(pid)
    await driver.remove(handle)
    assert is_gone(pid)
    traces.assert_none("c")


async def test_a_daemon_dies_when_pid_1_ends(driver, fifo, is_gone) -> None:
    handle = await driver.create(daemon(fifo))
    await driver.start(handle)
    pid = await fifo.hear()
    await driver.signal(handle, signal.SIGKILL)
    assert await driver.wait(handle) == Exit(signal=signal.SIGKILL)
    await driver.remove(handle)
    assert is_gone(pid)


async def test_many_that_fork_on_are_all_caught(driver, shell, traces, tmp_path) -> None:
    # Each process replaces itself as fast as it can, in a session of its own.
    script = tmp_path / "hydra"
    script.write_text('#!/bin/sh\nsetsid "$0" &\nexec sleep 0.001\n')
    script.chmod(0o755)
    handle = await driver.create(shell("c", f"{script}; {script}; {script}; {FOREVER}"))
    await driver.start(handle)
    await driver.remove(handle)
    traces.assert_none("c")


async def test_who_waits_learns_how_a_removed_container_ended(driver, shell) -> None:
    handle = await driver.create(shell("c", FOREVER))
    await driver.start(handle)
    exits = list[Exit]()

    async def wait() -> None:
        exits.append(await driver.wait(handle))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await driver.remove(handle)
    assert exits == [Exit(signal=signal.SIGKILL)]


async def test_directories_that_the_container_locked_are_deleted(driver, shell, traces) -> None:
    handle = await driver.create(shell("c", "mkdir -p a/b; touch a/b/c; chmod 0 a/b a"))
    await driver.start(handle)
    await driver.wait(handle)
    await driver.remove(handle)
    traces.assert_none("c")


def nest(directory: Path) -> None:
    """More levels than Python recurses to."""
    subprocess.run(["mkdir", "-p", "d/" * 1900], cwd=directory, check=True)


@contextmanager
def busy(directory: Path) -> Iterator[None]:
    """Somebody has mounted something over there, and it cannot be deleted."""
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(directory)], check=True)
    try:
        yield
    finally:
        # It may have been moved.
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if line.split()[4].endswith(f"/{directory.name}"):
                subprocess.run(["umount", line.split()[4]], check=True)


async def test_what_is_nested_deeply_goes_with_its_container(driver, shell, state_dir) -> None:
    handle = await driver.create(shell("c", "true", sockets=True))
    nest(Directory(state_dir / "c").sockets)
    await driver.remove(handle)
    assert list(state_dir.iterdir()) == []


async def test_what_is_nested_deeply_is_swept_when_the_driver_opens(
    open_driver, state_dir: Path
) -> None:
    (state_dir / ".gone-x").mkdir()
    nest(state_dir / ".gone-x")
    async with open_driver():
        assert list(state_dir.iterdir()) == []


@pytest.mark.needs_root
async def test_what_cannot_be_deleted_is_named_and_deleted_later(driver, shell, state_dir) -> None:
    handle = await driver.create(shell("c", "true"))
    with busy(state_dir / "c" / "work" / "busy-c"):
        with pytest.raises(BackendError) as caught:
            await driver.remove(handle)
        assert str(caught.value) == (
            f"cannot delete {state_dir}/c, where container c was: Device or resource busy"
        )
        assert caught.value.retryable
        assert await driver.survey() == []
        assert [each.name for each in state_dir.iterdir()] == ["c"]
    await driver.remove(handle)
    assert list(state_dir.iterdir()) == []


@pytest.mark.needs_root
async def test_what_cannot_be_swept_is_told_and_the_driver_opens(
    open_driver, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (state_dir / ".new-x").mkdir()
    with busy(state_dir / ".gone-y" / "busy-y"):
        async with open_driver():
            assert [each.name for each in state_dir.iterdir()] == [".gone-y"]
    told = [each for each in caplog.records if each.levelname == "WARNING"]
    assert [(each.message, each.path) for each in told] == [
        ("fork_exec_directory_left", str(state_dir / ".gone-y"))
    ]


# The shim is killed.


async def test_a_container_ends_unseen_with_its_shim(driver, shell, state_dir, is_gone) -> None:
    handle = await driver.create(shell("c", FOREVER))
    await driver.start(handle)
    life = Directory(state_dir / "c").life()
    os.kill(life.shim.pid, signal.SIGKILL)
    assert await driver.wait(handle) == Exit()
    assert is_gone(life.main.pid)
    assert [each.exit for each in await driver.survey()] == [Exit()]


async def test_what_a_killed_shim_left_running_dies_at_removal(
    driver, fifo, state_dir, traces, is_gone
) -> None:
    handle = await driver.create(daemon(fifo))
    await driver.start(handle)
    pid = await fifo.hear()
    os.kill(Directory(state_dir / "c").life().shim.pid, signal.SIGKILL)
    await driver.wait(handle)
    await driver.remove(handle)
    assert is_gone(pid)
    traces.assert_none("c")


async def test_a_shim_that_hangs_does_not_keep_its_container(
    driver, shell, state_dir, traces
) -> None:
    handle = await driver.create(shell("c", FOREVER))
    await driver.start(handle)
    os.kill(Directory(state_dir / "c").life().shim.pid, signal.SIGSTOP)
    await driver.remove(handle)
    traces.assert_none("c")


# The start fails.


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"argv": ("nope",)}, "container c: cannot run 'nope': No such file or directory"),
        ({"argv": ("/etc",)}, "container c: cannot run '/etc': Permission denied"),
        (
            {"argv": ("true",), "cwd": "/nonexistent"},
            "container c: cannot enter '/nonexistent': No such file or directory",
        ),
        (
            {"argv": ("true", "x" * (3 << 20))},
            "container c: cannot run 'true': Argument list too long",
        ),
    ],
)
async def test_a_start_that_fails_says_why_and_leaves_what_was_created(
    driver: Driver, traces, spec, message: str
) -> None:
    handle = await driver.create(ContainerSpec(id=ContainerId("c"), **spec))
    files, descriptors = traces.files(), traces.descriptors()
    with pytest.raises(BackendError) as caught:
        await driver.start(handle)
    assert str(caught.value) == message
    assert not caught.value.retryable
    assert [each.phase for each in await driver.survey()] == [Phase.CREATED]
    assert traces.files() == files
    assert traces.descriptors() == descriptors
    assert traces.processes() == set() == traces.groups("c")
    await driver.remove(handle)
    traces.assert_none("c")


async def test_a_shim_that_breaks_is_quoted(driver, shell, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    handle = await driver.create(shell("c", "true"))
    with pytest.raises(BackendError, match="container c: its shim broke: it said nothing"):
        await driver.start(handle)


async def test_what_could_not_start_may_start_later(driver, tmp_path) -> None:
    program = tmp_path / "program"
    handle = await driver.create(ContainerSpec(id=ContainerId("c"), argv=(str(program),)))
    with pytest.raises(BackendError, match="No such file"):
        await driver.start(handle)
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=7)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"argv": ()}, "argv is empty"),
        ({"argv": ("a\0b",)}, "cannot hold a NUL"),
        ({"argv": ("a",), "env": {"A=B": ""}}, "env has a name"),
    ],
)
async def test_what_no_process_can_be_given_is_not_created(driver, traces, spec, message) -> None:
    with pytest.raises(BackendError, match=message):
        await driver.create(ContainerSpec(id=ContainerId("c"), **spec))
    traces.assert_none("c")


@pytest.mark.parametrize("milliseconds", range(0, 40, 4))
async def test_a_start_that_is_cancelled_leaves_what_was_created(
    driver, shell, traces, milliseconds
) -> None:
    handle = await driver.create(shell("c", FOREVER))
    files = traces.files()
    attachment = None
    with anyio.move_on_after(milliseconds / 1000):
        attachment = await driver.start(handle)
    if attachment is None:
        assert traces.processes() == set()
        assert traces.zombies() == set()
        assert traces.files() == files
        assert [each.phase for each in await driver.survey()] == [Phase.CREATED]
        assert traces.groups("c") == set()
    await driver.remove(handle)
    traces.assert_none("c")


async def test_a_create_that_is_cancelled_leaves_nothing_or_all(driver, shell, traces) -> None:
    for microseconds in range(0, 3000, 300):
        handle = None
        with anyio.move_on_after(microseconds / 1e6):
            handle = await driver.create(shell("c", "true"))
        if handle is None:
            traces.assert_none("c")
        else:
            await driver.remove(handle)


# The create was interrupted.


async def test_a_directory_that_is_not_complete_is_no_container(
    driver, shell, state_dir: Path, traces
) -> None:
    (state_dir / "c").mkdir()
    (state_dir / "c" / "spec.json.new").write_text("{")
    assert await driver.survey() == []
    await driver.remove(Handle(id=ContainerId("c")))
    traces.assert_none("c")


async def test_an_interrupted_create_can_be_repeated(driver, shell, state_dir: Path) -> None:
    (state_dir / "c").mkdir()
    (state_dir / "c" / "spec.json.new").write_text("{")
    handle = await driver.create(shell("c", "exit 5"))
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=5)


async def test_what_was_half_made_or_half_deleted_is_swept_when_the_driver_opens(
    open_driver, state_dir: Path, traces
) -> None:
    for name in (".new-x", ".gone-y"):
        (state_dir / name / "work").mkdir(parents=True)
    async with open_driver():
        assert traces.files() == set()


# A process outlives SIGKILL.


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Path]:
    """A group whose processes do not even die, until they are thawed."""
    group = Path(f"/sys/fs/cgroup/freezer/longshore-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no freezer of version 1 here")
    yield group
    (group / "freezer.state").write_text("THAWED")
    group.rmdir()


async def test_removal_names_what_it_cannot_end_and_may_be_tried_again(
    driver, shell, state_dir, freezer: Path, traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longshore_forkexec.driver, "_END_SECONDS", 2)
    handle = await driver.create(shell("c", FOREVER))
    await driver.start(handle)
    main = Directory(state_dir / "c").life().main
    (freezer / "cgroup.procs").write_text(str(main.pid))
    (freezer / "freezer.state").write_text("FROZEN")
    message = f"processes {main.pid} of container c outlive SIGKILL"
    with pytest.raises(BackendError, match=message) as caught:
        await driver.remove(handle)
    assert caught.value.retryable
    assert [each.id for each in await driver.survey()] == ["c"]
    (freezer / "freezer.state").write_text("THAWED")
    await driver.remove(handle)
    traces.assert_none("c")
