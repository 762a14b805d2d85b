from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.machine import fair_time

Daemon = Any


def test_a_process_is_created_with_its_description(daemon: Daemon) -> None:
    info = daemon.start("sh", "-c", "exit 3")
    assert info["status"] == "running"
    assert info["command"] == "sh"
    assert info["args"] == ["-c", "exit 3"]
    assert info["exit_code"] is info["signal"] is info["ended_at"] is None
    assert info["stdin_writable"] is False
    daemon.follow(info["pid"])
    after = daemon.http.get(f"processes/{info['pid']}").json()
    assert (after["status"], after["exit_code"], after["signal"]) == ("exited", 3, None)
    assert after["ended_at"] >= after["started_at"]
    assert set(after) == {
        *("pid", "status", "exit_code", "signal", "timed_out", "stdin_writable", "command"),
        *("args", "started_at", "ended_at"),
    }


def test_processes_are_listed(daemon: Daemon) -> None:
    pids = [daemon.start("true")["pid"] for _ in range(3)]
    listed = daemon.http.get("processes").json()["processes"]
    assert [info["pid"] for info in listed] == pids


def test_a_killed_process_is_signaled(daemon: Daemon) -> None:
    pid = daemon.start("sleep", "100")["pid"]
    assert daemon.http.delete(f"processes/{pid}").status_code == 204
    daemon.follow(pid)
    info = daemon.http.get(f"processes/{pid}").json()
    assert (info["status"], info["signal"], info["exit_code"]) == ("signaled", 9, None)


def test_deleting_a_finished_process_is_no_error(daemon: Daemon) -> None:
    pid = daemon.start("true")["pid"]
    daemon.follow(pid)
    assert daemon.http.delete(f"processes/{pid}").status_code == 204


def test_a_signal_reaches_the_process(daemon: Daemon) -> None:
    pid = daemon.start(
        "sh", "-c", "trap 'echo usr; exit 7' USR1; echo up; read x", stdin_mode="pipe"
    )["pid"]
    events = daemon.events(f"processes/{pid}/output/follow")
    assert next(events)["line"] == "up"
    answer = daemon.http.post(f"processes/{pid}/signal", json={"signal": int(signal.SIGUSR1)})
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert next(events)["line"] == "usr"
    assert list(events) == [{}]
    assert daemon.http.get(f"processes/{pid}").json()["exit_code"] == 7


@pytest.mark.parametrize("number", [0, -1, 65])
def test_a_number_that_is_no_signal_is_refused(daemon: Daemon, number: int) -> None:
    pid = daemon.start("sleep", "100")["pid"]
    answer = daemon.http.post(f"processes/{pid}/signal", json={"signal": number})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_SIGNAL")


def test_a_finished_process_cannot_be_signalled(daemon: Daemon) -> None:
    pid = daemon.start("true")["pid"]
    daemon.follow(pid)
    answer = daemon.http.post(f"processes/{pid}/signal", json={"signal": 15})
    assert (answer.status_code, answer.json()["code"]) == (400, "NOT_RUNNING")
    assert answer.json()["error"] == f"Process {pid} is not running"


def test_delete_reaches_the_children_of_a_shell(
    daemon: Daemon, wait_gone: Callable[[int], None]
) -> None:
    pid = daemon.start("sh", "-c", "sleep 100 & echo $!; sleep 100")["pid"]
    child = int(next(daemon.events(f"processes/{pid}/stdout/follow"))["line"])
    daemon.http.delete(f"processes/{pid}")
    wait_gone(child)
    wait_gone(pid)


def test_delete_reaches_children_that_made_a_group_of_their_own(
    daemon: Daemon, wait_gone: Callable[[int], None]
) -> None:
    pid = daemon.start("bash", "-c", "set -m; sleep 100 & echo $!; wait")["pid"]
    child = int(next(daemon.events(f"processes/{pid}/stdout/follow"))["line"])
    assert os.getpgid(child) == child
    daemon.http.delete(f"processes/{pid}")
    wait_gone(child)


def test_delete_reaches_what_a_finished_shell_left_behind(
    daemon: Daemon, wait_gone: Callable[[int], None]
) -> None:
    pid = daemon.start("sh", "-c", "sleep 100 >/dev/null 2>&1 & echo $!")["pid"]
    child = int(daemon.follow(pid)[0]["line"])
    assert daemon.http.get(f"processes/{pid}").json()["status"] == "exited"
    assert daemon.http.delete(f"processes/{pid}").status_code == 204
    wait_gone(child)


ORPHANS = [
    "setsid sh -c 'echo $$; exec sleep 100' & sleep 100",
    "(setsid sh -c 'echo $$; exec sleep 100' &) ; sleep 100",
    "(setsid sh -c '(setsid sh -c \"echo \\$\\$; exec sleep 100\" &)' &) ; sleep 100",
]
CLOSENESS = ["a child", "an orphan", "an orphan's orphan"]


@pytest.mark.parametrize("script", ORPHANS, ids=CLOSENESS)
@pytest.mark.parametrize("name", ["HUP", "TERM", "KILL"])
def test_a_signal_that_ends_reaches_those_who_left_the_session(
    daemon: Daemon, wait_gone: Callable[[int], None], script: str, name: str
) -> None:
    pid = daemon.start("sh", "-c", script)["pid"]
    child = int(next(daemon.events(f"processes/{pid}/stdout/follow"))["line"])
    number = int(signal.Signals[f"SIG{name}"])
    answer = daemon.http.post(f"processes/{pid}/signal", json={"signal": number})
    assert answer.status_code == 200
    wait_gone(child)
    wait_gone(pid)


def test_a_kill_reaches_an_orphan_that_is_becoming_another_program(
    daemon: Daemon, wait_gone: Callable[[int], None], tmp_path: Path
) -> None:
    """Whose environment cannot be read at that moment: here it is one of very many."""
    restless = tmp_path / "restless"
    restless.write_text('#!/bin/sh\nexec "$0"\n')
    restless.chmod(0o755)
    script = f"(setsid sh -c 'echo $$; exec {restless}' &) ; sleep 100"
    for _ in range(40):
        pid = daemon.start("sh", "-c", script)["pid"]
        child = int(next(daemon.events(f"processes/{pid}/stdout/follow"))["line"])
        answer = daemon.http.post(f"processes/{pid}/signal", json={"signal": int(signal.SIGKILL)})
        assert answer.status_code == 200
        wait_gone(child)


@pytest.mark.parametrize("number", [2, 3])
def test_so_do_those_of_a_keyboard(
    daemon: Daemon, wait_gone: Callable[[int], None], number: int
) -> None:
    """Which a shell has what it puts into the background ignore."""
    script = "import subprocess as s; p = s.Popen(['sleep', '100'], start_new_session=True); "
    script += "print(p.pid, flush=True); p.wait()"
    pid = daemon.start(sys.executable, "-c", script)["pid"]
    child = int(next(daemon.events(f"processes/{pid}/stdout/follow"))["line"])
    daemon.http.post(f"processes/{pid}/signal", json={"signal": number})
    wait_gone(child)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/signal"),
        ("POST", "/stdin"),
        ("POST", "/stdin/close"),
        ("GET", "/stdout"),
        ("GET", "/stderr"),
        ("GET", "/output"),
        ("GET", "/stdout/follow"),
        ("GET", "/output/follow"),
    ],
)
@pytest.mark.parametrize("pid", ["999999", "nonsense", "%00", "-1"])
def test_a_process_that_is_not_there_is_not_found(
    daemon: Daemon, method: str, path: str, pid: str
) -> None:
    answer = daemon.http.request(method, f"processes/{pid}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("command", "fields", "cause"),
    [
        (
            "no-such-command",
            {},
            "cannot start 'no-such-command': not found in PATH (/usr/bin:/bin)",
        ),
        ("/no/such/file", {}, "cannot start '/no/such/file': No such file or directory"),
        ("/etc/passwd", {}, "cannot start '/etc/passwd': Permission denied"),
        ("/", {}, "cannot start '/': Permission denied"),
        (
            "true",
            {"working_dir": "/no/dir"},
            "cannot start 'true' in '/no/dir': No such file or directory",
        ),
    ],
)
def test_a_failed_start_names_the_command_and_the_cause(
    daemon: Daemon, command: str, fields: dict[str, Any], cause: str
) -> None:
    body = {"command": command, "env": {"PATH": "/usr/bin:/bin"}, **fields}
    for route in ("processes", "processes/run"):
        answer = daemon.http.post(route, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "SPAWN_FAILED")
        assert answer.json()["error"] == answer.json()["message"] == cause
    assert daemon.http.get("processes").json() == {"processes": []}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body: an object is wanted"),
        ({}, "command: a string that is not empty is wanted"),
        ({"command": 1}, "command: a string without NUL is wanted"),
        ({"command": "a\0b"}, "command: a string without NUL is wanted"),
        ({"command": "true", "args": "x"}, "args: a list of strings without NUL is wanted"),
        ({"command": "true", "args": [1]}, "args: a list of strings without NUL is wanted"),
        (
            {"command": "true", "env": {"A=B": "x"}},
            "env: an object of strings without NUL, with names without '=' is wanted",
        ),
        ({"command": "true", "stdin_mode": "tty"}, "stdin_mode: 'closed' or 'pipe' is wanted"),
        ({"command": "true", "working_dir": 3}, "working_dir: a string without NUL is wanted"),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused(daemon: Daemon, body: Any, message: str) -> None:
    answer = daemon.http.post("processes", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")
    assert answer.json()["error"] == message


@pytest.mark.parametrize("field", ["restart", "health_check", "runtime"])
@pytest.mark.parametrize("route", ["processes", "processes/run", "processes/frames"])
def test_what_nobody_would_do_is_refused_rather_than_ignored(
    daemon: Daemon, route: str, field: str
) -> None:
    body = {"command": "true", field: {"policy": "always"}}
    answer = daemon.http.post(route, json=body)
    assert (answer.status_code, answer.json()["code"]) == (501, "UNSUPPORTED_CAPABILITY")
    assert answer.json()["error"] == f"{field}: processes are not managed here; leave it out"
    assert daemon.start("true", **{field: None})["pid"]


@pytest.mark.parametrize("field", ["command", "args", "env"])
def test_half_a_character_is_refused_rather_than_breaking_off(daemon: Daemon, field: str) -> None:
    values = {"command": '"\\ud800"', "args": '["\\uDC80"]', "env": '{"A": "\\ud800"}'}
    body = '{"command": "true", ' + f'"{field}": {values[field]}' + "}"
    for route in ("processes", "processes/run"):
        answer = daemon.http.post(route, content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_JSON")
        assert "surrogates not allowed" in answer.json()["error"]
    whole = '{"command": "echo", "args": ["\\ud83d\\ude00"]}'
    assert daemon.http.post("processes", content=whole).json()["args"] == ["\U0001f600"]


def test_another_user_is_refused_rather_than_ignored(daemon: Daemon) -> None:
    answer = daemon.http.post("processes", json={"command": "id", "user": "nobody"})
    assert (answer.status_code, answer.json()["code"]) == (400, "UNSUPPORTED_USER")
    assert daemon.run("id", "-un", user="root")[1]["line"] == "root"


def test_a_process_runs_where_it_is_told_to(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("#!/bin/sh\npwd\n")
    (tmp_path / "here").chmod(0o755)
    assert daemon.run("./here", working_dir=str(tmp_path))[1]["line"] == str(tmp_path)
    assert daemon.run("pwd")[1]["line"] == os.getcwd()


def test_environments_are_layered(daemon: Daemon) -> None:
    script = "echo $FROM_GO $HOME $EXTRA; env | grep LONGSHORE | cut -d= -f1"
    lines = daemon.run("sh", "-c", script, env={"EXTRA": "x", "HOME": "/h"})
    assert [event["line"] for event in lines[1:-1]] == ["yes /h x", "LONGSHORE_PROCESS"]


def test_a_process_gets_no_descriptors_and_no_ignored_signals(daemon: Daemon) -> None:
    lines = daemon.run("sh", "-c", "ls /proc/$$/fd; grep SigIgn /proc/self/status")
    *descriptors, ignored = [event["line"] for event in lines[1:-1]]
    assert descriptors == ["0", "1", "2"]
    # Two that glibc keeps for itself are set aside by posix_spawn.
    assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0


def test_signals_that_a_parent_of_the_worker_ignores_are_no_business_of_processes(
    launch: Callable[..., Daemon],
) -> None:
    # As `nohup` does, and a shell with what it starts in the background.
    names = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
    before = {name: signal.signal(name, signal.SIG_IGN) for name in names}
    try:
        daemon = launch()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    assert daemon.ask("go", token="the-token")["ok"]
    for name in names:
        script = f"kill -{name.name.removeprefix('SIG')} $$; echo ignored"
        assert daemon.run("sh", "-c", script)[1:] == [{"signal": int(name)}]


def test_discarded_output_is_not_kept(daemon: Daemon) -> None:
    pid = daemon.start("sh", "-c", "echo out; echo err >&2", stdout_mode="discard")["pid"]
    assert [event.get("line") for event in daemon.follow(pid)] == ["err", None]


def test_statuses_of_many_at_once_are_all_right(daemon: Daemon) -> None:
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda code: daemon.run("sh", "-c", f"exit {code}")[-1], range(100)))
    assert ends == [{"exit_code": code} for code in range(100)]


class TestStdin:
    def test_bytes_reach_the_process(self, daemon: Daemon) -> None:
        pid = daemon.start("sha256sum", stdin_mode="pipe")["pid"]
        data = os.urandom(10 << 20)
        for piece in (data[:10], data[10:8_000_000], data[8_000_000:]):
            assert daemon.http.post(f"processes/{pid}/stdin", content=piece).status_code == 204
        for _ in range(2):
            assert daemon.http.post(f"processes/{pid}/stdin/close").status_code == 204
        assert daemon.follow(pid)[0]["line"].split()[0] == hashlib.sha256(data).hexdigest()

    def test_a_body_in_chunks_reaches_the_process(self, daemon: Daemon) -> None:
        pid = daemon.start("cat", stdin_mode="pipe")["pid"]
        daemon.http.post(f"processes/{pid}/stdin", content=iter([b"one\n", b"two\n"]))
        daemon.http.post(f"processes/{pid}/stdin/close")
        assert [event.get("line") for event in daemon.follow(pid)] == ["one", "two", None]

    def test_a_process_that_does_not_read_holds_up_nobody_else(self, daemon: Daemon) -> None:
        pid = daemon.start("sleep", "100", stdin_mode="pipe")["pid"]
        with daemon.connect() as writer:
            head = f"POST /api/v1/processes/{pid}/stdin HTTP/1.1\r\nContent-Length: 9000000\r\n"
            writer.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\n")
            writer.settimeout(0.2)
            with pytest.raises(TimeoutError):
                writer.sendall(bytes(9_000_000))
            assert daemon.run("echo", "well")[1]["line"] == "well"
        # The one who hung up holds up the next writer no longer: it is its own turn now.
        with daemon.connect() as writer:
            writer.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\nx")
            assert daemon.http.delete(f"processes/{pid}").status_code == 204
            assert b"STDIN_NOT_WRITABLE" in writer.recv(65536)

    def test_closed_stdin_is_empty(self, daemon: Daemon) -> None:
        assert daemon.run("cat")[1:] == [{"exit_code": 0}]

    def test_it_cannot_be_written_when_it_is_no_pipe(self, daemon: Daemon) -> None:
        pid = daemon.start("sleep", "100")["pid"]
        for route in ("stdin", "stdin/close"):
            answer = daemon.http.post(f"processes/{pid}/{route}", content=b"x")
            assert (answer.status_code, answer.json()["code"]) == (400, "STDIN_NOT_WRITABLE")
            assert answer.json()["error"] == "Process stdin is not writable"

    def test_it_cannot_be_written_after_the_end(self, daemon: Daemon) -> None:
        pid = daemon.start("true", stdin_mode="pipe")["pid"]
        daemon.follow(pid)
        answer = daemon.http.post(f"processes/{pid}/stdin", content=b"x")
        assert (answer.status_code, answer.json()["code"]) == (400, "STDIN_NOT_WRITABLE")
        assert answer.json()["error"] == "Process stdin is closed"
        assert daemon.http.post(f"processes/{pid}/stdin/close").status_code == 204


class TestRun:
    def test_events_are_pid_lines_and_the_end(self, daemon: Daemon) -> None:
        first, *lines, last = daemon.run("sh", "-c", "echo out; sleep 0.05; echo err >&2; exit 4")
        assert set(first) == {"pid", "started_at"}
        assert [(line["stream"], line["line"]) for line in lines] == [
            ("stdout", "out"),
            ("stderr", "err"),
        ]
        assert all(set(line) == {"line", "timestamp", "stream"} for line in lines)
        assert last == {"exit_code": 4}

    def test_the_end_by_a_signal_is_told(self, daemon: Daemon) -> None:
        assert daemon.run("sh", "-c", "kill -SEGV $$")[-1] == {"signal": 11}

    def test_a_timeout_ends_the_whole_group(
        self, daemon: Daemon, wait_gone: Callable[[int], None]
    ) -> None:
        _, child, last = daemon.run("sh", "-c", "sleep 100 & echo $!; sleep 100", timeout=0.3)
        assert last == {"signal": 9, "timed_out": True}
        wait_gone(int(child["line"]))

    @pytest.mark.parametrize("script", ORPHANS, ids=CLOSENESS)
    def test_a_timeout_ends_those_who_left_the_session(
        self, daemon: Daemon, wait_gone: Callable[[int], None], script: str
    ) -> None:
        began = fair_time()
        _, child, last = daemon.run("sh", "-c", script, timeout=0.5)
        assert last == {"signal": 9, "timed_out": True}
        assert fair_time() - began < 5
        wait_gone(int(child["line"]))

    @pytest.mark.parametrize("how", ["", "setsid "], ids=["its session", "another"])
    def test_a_timeout_ends_what_is_left_of_one_that_has_ended(
        self, daemon: Daemon, wait_gone: Callable[[int], None], how: str
    ) -> None:
        script = f"{how}sh -c 'echo $$; exec sleep 100 >/dev/null 2>&1' & sleep 0.2"
        _, child, last = daemon.run("sh", "-c", script, timeout=0.6)
        assert last == {"exit_code": 0}
        wait_gone(int(child["line"]))

    def test_a_kill_leaves_others_alone(self, daemon: Daemon) -> None:
        other = daemon.start("sh", "-c", "(setsid sleep 100 &); sleep 100")["pid"]
        daemon.run("sleep", "100", timeout=0.1)
        assert daemon.http.get(f"processes/{other}").json()["status"] == "running"

    def test_a_timeout_ends_one_who_starts_others_without_end(
        self, daemon: Daemon, wait_gone: Callable[[int], None]
    ) -> None:
        nap = f"4242.{os.getpid()}"
        script = f"i=0; while [ $i -lt 500 ]; do i=$((i+1)); (setsid sleep {nap} &); done; sleep 9"
        assert daemon.run("sh", "-c", script, timeout=0.1)[-1] == {"signal": 9, "timed_out": True}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if path.read_bytes() == f"sleep\0{nap}\0".encode():
                    wait_gone(int(path.parent.name))

    def test_a_timeout_that_is_not_reached_is_not_mentioned(self, daemon: Daemon) -> None:
        assert daemon.run("true", timeout=60)[-1] == {"exit_code": 0}

    @pytest.mark.parametrize("timeout", [0, -1, "1", True])
    def test_a_timeout_must_be_a_positive_number(self, daemon: Daemon, timeout: Any) -> None:
        answer = daemon.http.post("processes/run", json={"command": "true", "timeout": timeout})
        assert answer.json()["error"] == "timeout: a number above 0 is wanted"

    def test_children_in_the_background_do_not_hold_it_up(self, daemon: Daemon) -> None:
        _, line, last = daemon.run("sh", "-c", "sleep 100 & echo done")
        assert (line["line"], last) == ("done", {"exit_code": 0})

    def test_a_client_that_hangs_up_does_not_end_the_process(self, daemon: Daemon) -> None:
        events = daemon.events(
            "processes/run", command="sh", args=["-c", "echo hi; sleep 0.3; exit 5"]
        )
        pid = next(events)["pid"]
        events.close()
        daemon.follow(pid)
        assert daemon.http.get(f"processes/{pid}").json()["exit_code"] == 5


class TestFollowers:
    def test_several_see_the_same_from_the_beginning(self, daemon: Daemon) -> None:
        pid = daemon.start(
            "sh", "-c", "for i in $(seq 500); do echo line $i; done; sleep 0.2; echo end"
        )["pid"]
        with ThreadPoolExecutor(6) as pool:
            seen = list(pool.map(lambda _: daemon.follow(pid, "stdout"), range(6)))
        expected = [f"line {number}" for number in range(1, 501)] + ["end", None]
        assert all([event.get("line") for event in events] == expected for events in seen)

    def test_a_slow_one_holds_up_neither_the_process_nor_others(self, daemon: Daemon) -> None:
        script = "head -c 20000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo end"
        pid = daemon.start("sh", "-c", script)["pid"]
        with daemon.connect() as slow:
            head = f"GET /api/v1/processes/{pid}/stdout/follow HTTP/1.1\r\n"
            slow.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\n")
            assert slow.recv(10)
            *_, end, eof = daemon.events(f"processes/{pid}/stdout/follow")
        assert (end["line"], eof) == ("end", {})

    def test_a_follower_of_one_stream_sees_only_that(self, daemon: Daemon) -> None:
        pid = daemon.start("sh", "-c", "echo a; echo b >&2; echo c")["pid"]
        events = daemon.follow(pid, "stdout")
        assert [event.get("line") for event in events] == ["a", "c", None]
        assert set(events[0]) == {"line", "timestamp"}

    def test_the_event_names_are_output_and_eof(self, daemon: Daemon) -> None:
        pid = daemon.start("echo", "a")["pid"]
        text = daemon.http.get(f"processes/{pid}/output/follow").text
        assert [line for line in text.splitlines() if line.startswith("event")] == [
            "event: output",
            "event: eof",
        ]

    def test_its_end_is_no_line_to_clients_that_look_for_data_and_a_space(
        self, daemon: Daemon
    ) -> None:
        pid = daemon.start("echo", "a")["pid"]
        text = daemon.http.get(f"processes/{pid}/output/follow").text
        assert text.endswith("event: eof\ndata:{}\n\n")

    def test_one_that_hangs_up_leaves_no_trace(self, daemon: Daemon) -> None:
        pid = daemon.start("sh", "-c", "echo a; read x", stdin_mode="pipe")["pid"]
        # Output has a place once there is some.
        assert next(daemon.events(f"processes/{pid}/stdout/follow"))["line"] == "a"
        before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        for _ in range(20):
            events = daemon.events(f"processes/{pid}/stdout/follow")
            assert next(events)["line"] == "a"
            events.close()
        deadline = time.monotonic() + 10
        while len(os.listdir(f"/proc/{daemon.process.pid}/fd")) > before:
            # It sees that the last of them has hung up in a later round of its loop.
            assert time.monotonic() < deadline, "descriptors are left"
            time.sleep(0.01)


def test_a_writer_without_end_leaves_room_for_others(daemon: Daemon) -> None:
    pid = daemon.start("timeout", "5", "yes")["pid"]
    assert daemon.run("echo", "quick")[1]["line"] == "quick"
    daemon.http.delete(f"processes/{pid}")


class TestNames:
    def test_a_name_stands_for_the_process_everywhere(self, daemon: Daemon) -> None:
        info = daemon.start("cat", name="web-1.main", stdin_mode="pipe")
        assert info["name"] == "web-1.main"
        assert daemon.http.post("processes/web-1.main/stdin", content=b"hi\n").status_code == 204
        assert next(daemon.events("processes/web-1.main/stdout/follow"))["line"] == "hi"
        assert daemon.http.get("processes/web-1.main").json()["pid"] == info["pid"]
        answer = daemon.http.post("processes/web-1.main/signal", json={"signal": 15})
        assert answer.status_code == 200
        assert daemon.follow(info["pid"])[-1] == {}
        assert daemon.http.get("processes/web-1.main/output").json()["lines"] == ["hi"]
        assert daemon.http.delete("processes/web-1.main").status_code == 204

    def test_a_name_is_taken_as_long_as_its_process_runs(self, daemon: Daemon) -> None:
        first = daemon.start("sleep", "100", name="one")
        body = {"command": "true", "name": "one"}
        answer = daemon.http.post("processes", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "NAME_TAKEN")
        assert answer.json()["error"] == f"process {first['pid']} is running as 'one'"
        daemon.http.delete("processes/one")
        daemon.follow(first["pid"])
        second = daemon.start("true", name="one")
        assert daemon.http.get("processes/one").json()["pid"] == second["pid"]

    @pytest.mark.parametrize("name", ["", "17", "a/b", "a b", "ż", "x" * 129, 3])
    def test_what_is_no_name_is_refused(self, daemon: Daemon, name: Any) -> None:
        answer = daemon.http.post("processes", json={"command": "true", "name": name})
        assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")


class TestRestart:
    def test_a_running_process_is_ended_and_started_again(
        self, daemon: Daemon, wait_gone: Callable[[int], None], tmp_path: Path
    ) -> None:
        script = "echo $X; pwd; sleep 100 & echo $!; read x"
        fields = {"name": "app", "env": {"X": "y"}, "working_dir": str(tmp_path)}
        first = daemon.start("sh", "-c", script, stdin_mode="pipe", **fields)
        events = daemon.events("processes/app/stdout/follow")
        child = [next(events)["line"] for _ in range(3)][2]
        answer = daemon.http.post("processes/app/restart")
        assert answer.status_code == 200
        second = answer.json()
        assert second["pid"] != first["pid"]
        assert second["name"] == "app"
        assert second["stdin_writable"]
        wait_gone(int(child))
        assert daemon.http.get(f"processes/{first['pid']}").json()["status"] == "signaled"
        assert daemon.http.get("processes/app").json()["pid"] == second["pid"]
        events = daemon.events("processes/app/stdout/follow")
        assert [next(events)["line"] for _ in range(2)] == ["y", str(tmp_path)]

    def test_a_finished_process_is_started_again(self, daemon: Daemon) -> None:
        first = daemon.start("sh", "-c", "exit 4")
        daemon.follow(first["pid"])
        second = daemon.http.post(f"processes/{first['pid']}/restart").json()
        daemon.follow(second["pid"])
        assert daemon.http.get(f"processes/{second['pid']}").json()["exit_code"] == 4

    def test_one_whose_name_is_another_s_by_now_is_not(self, daemon: Daemon) -> None:
        first = daemon.start("true", name="app")
        daemon.follow(first["pid"])
        daemon.start("sleep", "100", name="app")
        answer = daemon.http.post(f"processes/{first['pid']}/restart")
        assert (answer.status_code, answer.json()["code"]) == (409, "NAME_TAKEN")

    def test_what_is_not_there_is_not_found(self, daemon: Daemon) -> None:
        answer = daemon.http.post("processes/nobody/restart")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
