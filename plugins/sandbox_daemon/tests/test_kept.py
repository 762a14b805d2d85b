"""Where output is kept, and how much of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import Options, Patience, SandboxDaemon
from longshore_daemon.inside.store import Store

Daemon = Any
MIB = 1 << 20


@pytest.fixture
def launch_with(runtime: Any, start: Callable[..., Daemon]) -> Callable[..., Daemon]:
    """Starts daemons that see their container's files, with so many descriptors at the most."""

    def begin(
        *,
        descriptors: tuple[int, int] | None = None,
        env: dict[str, str] | None = None,
        **kept: int,
    ) -> Daemon:
        guest = SandboxDaemon(runtime, Patience(start=10, call=5, grace=5), Options(**kept))
        spec = ContainerSpec(id=ContainerId("c"), argv=(), env={"PATH": "/usr/bin:/bin"})
        argv = guest.launch(spec, Facts(mounts=False)).argv
        if descriptors is not None:
            argv = ("prlimit", f"--nofile={descriptors[0]}:{descriptors[1]}", *argv)
        daemon = start(argv, {**guest.launch(spec, Facts()).env, **(env or {})})
        daemon.ask("go", token="the-token")
        return daemon

    return begin


def on_disk(daemon: Daemon) -> int:
    """How many bytes the files have that output is kept in."""
    found = 0
    for path in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        if "/.longshore-" in os.readlink(path):
            found += path.stat().st_blocks * 512
    return found


def finished(daemon: Daemon, size: int) -> int:
    """A process that has written so many bytes."""
    pid = daemon.start("head", "-c", str(size), "/dev/zero")["pid"]
    daemon.follow(pid, "stderr")
    return pid


class TestNobodyTidies:
    def test_who_removes_all_temporary_files_removes_no_output(
        self, launch_with: Callable[..., Daemon], tmp_path: Path
    ) -> None:
        daemon = launch_with(env={"TMPDIR": str(tmp_path)})
        events = daemon.events("processes/run", command="sh", args=["-c", "echo before; cat"])
        pid = next(events)["pid"]
        list(events)
        script = f"rm -rf {tmp_path}/* {tmp_path}/.[!.]*; echo during"
        assert daemon.run("sh", "-c", script)[1]["line"] == "during"
        assert daemon.raw(pid) == b"before\n"
        assert daemon.run("echo", "after")[1]["line"] == "after"

    def test_who_removes_the_directory_itself_loses_nothing_either(
        self, launch_with: Callable[..., Daemon], tmp_path: Path
    ) -> None:
        (own := tmp_path / "own").mkdir()
        daemon = launch_with(env={"TMPDIR": str(own)})
        assert daemon.run("sh", "-c", f"rm -r {own}; echo gone")[1]["line"] == "gone"
        assert daemon.run("echo", "after")[1]["line"] == "after"

    def test_there_is_no_name_under_which_something_else_could_be_put(
        self, launch_with: Callable[..., Daemon], tmp_path: Path
    ) -> None:
        daemon = launch_with(env={"TMPDIR": str(tmp_path)})
        shown = daemon.run("sh", "-c", f"echo mine; find {tmp_path} -mindepth 1")
        assert [event.get("line") for event in shown[1:]] == ["mine", None]


class TestDescriptors:
    def test_user_processes_have_as_many_as_the_daemon_was_given(
        self, launch_with: Callable[..., Daemon]
    ) -> None:
        daemon = launch_with(descriptors=(300, 5000))
        assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE) == (5000, 5000)
        shown = daemon.run("sh", "-c", "ulimit -n; ulimit -Hn")
        assert [event["line"] for event in shown[1:3]] == ["300", "5000"]
        with daemon.attach(daemon.open_pty("sh", "-c", "ulimit -n")) as socket:
            socket.ready()
            assert socket.receive_rest()[0].split() == [b"300"]

    def test_few_are_enough_for_any_number_of_processes(
        self, launch_with: Callable[..., Daemon]
    ) -> None:
        daemon = launch_with(descriptors=(100, 100))
        for number in range(60):
            assert daemon.run("echo", str(number))[1]["line"] == str(number)
        assert 10 < len(daemon.http.get("processes").json()["processes"]) < 50


class TestTotal:
    def test_those_that_ended_first_make_room(self, launch_with: Callable[..., Daemon]) -> None:
        daemon = launch_with(output_total_bytes=4 * MIB)
        silent = finished(daemon, 0)
        pids = [finished(daemon, MIB) for _ in range(8)]
        kept = [info["pid"] for info in daemon.http.get("processes").json()["processes"]]
        assert kept == [silent, *pids[-len(kept) + 1 :]]
        assert 3 <= len(kept) - 1 <= 4
        assert daemon.http.get(f"processes/{pids[0]}/stdout").status_code == 404
        for pid in kept[1:]:
            assert daemon.raw(pid) == bytes(MIB)
        assert on_disk(daemon) <= 5 * MIB

    def test_one_that_runs_keeps_the_latest_of_what_there_is_room_for(
        self, launch_with: Callable[..., Daemon]
    ) -> None:
        daemon = launch_with(output_total_bytes=4 * MIB)
        ended = finished(daemon, MIB)
        pid = finished(daemon, 32 * MIB)
        assert daemon.http.get(f"processes/{ended}").status_code == 404
        answer = daemon.http.get(f"processes/{pid}/stdout?raw=1")
        missing = int(answer.headers["longshore-output-gap"].removeprefix("0-"))
        assert missing + len(answer.content) == 32 * MIB
        assert 3 * MIB < len(answer.content) < 5 * MIB
        assert on_disk(daemon) <= 5 * MIB

    def test_a_small_disk_is_left_to_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = os.statvfs(tmp_path)
        small = os.statvfs_result((4096, 4096, 1024, *disk[3:]))
        monkeypatch.setattr(os, "fstatvfs", lambda _: small)
        assert Store((str(tmp_path),)).total == MIB
        assert Store((str(tmp_path),), 1000).total == 1000

    def test_a_reader_on_its_way_goes_on_when_its_process_is_forgotten(
        self, launch_with: Callable[..., Daemon]
    ) -> None:
        daemon = launch_with(output_total_bytes=8 * MIB)
        pid = finished(daemon, 7 * MIB)
        with daemon.connect() as reader:
            head = f"GET /api/v1/processes/{pid}/stdout?raw=1 HTTP/1.1\r\nConnection: close\r\n"
            reader.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\n")
            received = reader.recv(4096)
            finished(daemon, 3 * MIB)
            assert daemon.http.get(f"processes/{pid}").status_code == 404
            while data := reader.recv(65536):
                received += data
        assert received.partition(b"\r\n\r\n")[2] == bytes(7 * MIB)
