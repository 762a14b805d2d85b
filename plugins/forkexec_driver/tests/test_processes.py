"""Telling processes apart, and waiting for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest
from longshore_forkexec.processes import (
    COOKIE,
    Endings,
    Process,
    bearing,
    child,
    identify,
    is_alive,
    send,
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], env={COOKIE: "me:/here/c"})
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_its_start_too(sleeper) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    assert is_alive(process)
    assert not is_alive(replace(process, start=process.start + 1))


def test_a_name_that_looks_like_fields_is_read_past(tmp_path) -> None:
    program = tmp_path / ") S 1 1"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"]) as process:
        try:
            found = identify(process.pid)
            own = identify(os.getpid())
            assert found is not None
            assert own is not None
            assert found.start >= own.start
        finally:
            process.kill()


def test_a_zombie_has_ended_and_is_reaped_when_asked_for() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    process = child(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert identify(pid) is None
    assert not is_alive(process)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_a_stranger_under_the_pid_gets_no_signal(sleeper) -> None:
    process = child(sleeper.pid)
    send(replace(process, start=process.start + 1), signal.SIGKILL)
    assert sleeper.poll() is None
    send(process, signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL
    send(process, signal.SIGKILL)


@pytest.mark.parametrize(
    ("cookie", "is_found"),
    [("me:/here/c", True), ("me:/here/", False), ("me:/here/c2", False), ("e:/here/c", False)],
)
def test_a_cookie_is_found_whole_or_not_at_all(sleeper, cookie, is_found) -> None:
    assert (child(sleeper.pid) in bearing(cookie)) is is_found


def test_one_that_is_becoming_another_program_is_found(tmp_path) -> None:
    """Its environment cannot be read at that moment: here it is one of very many."""
    restless = tmp_path / "restless"
    restless.write_text('#!/bin/sh\nexec "$0"\n')
    restless.chmod(0o755)
    with subprocess.Popen([restless], env={COOKIE: "me:/here/c"}) as process:
        try:
            assert all(child(process.pid) in bearing("me:/here/c") for _ in range(100))
        finally:
            process.kill()


async def test_waiting_for_what_has_ended_returns() -> None:
    await Endings().wait(Process(pid=os.getpid(), start=1))


async def test_all_who_wait_share_one_descriptor_and_give_it_back(sleeper) -> None:
    endings, process = Endings(), child(sleeper.pid)
    before = len(os.listdir("/proc/self/fd"))
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(endings.wait, process)
        await anyio.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        send(process, signal.SIGKILL)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_child_reaped_by_another_is_an_error_of_the_host() -> None:
    with pytest.raises(ProcessLookupError, match="was reaped by another"):
        child(_reaped())


def _reaped() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid
