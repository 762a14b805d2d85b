from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_core.abc import Guest

Daemon = Any


def dial(daemon: Daemon, port: int) -> tuple[bytes, list[int]]:
    with daemon.connect("control.sock") as sock:
        sock.sendall(b'{"v":1,"op":"dial","port":%d}\n' % port)
        answer, descriptors, _, _ = socket.recv_fds(sock, 65536, 4)
        return answer, descriptors


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_dial_hands_out_a_connection_to_the_loopback(daemon: Daemon, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        answer, descriptors = dial(daemon, server.getsockname()[1])
        assert answer == b'{"ok":true}\n'
        accepted, _ = server.accept()
        with accepted, socket.socket(fileno=descriptors[0]) as handed:
            assert handed.family == family
            accepted.sendall(b"hello")
            assert handed.recv(10) == b"hello"


def test_dial_keeps_no_copy_of_what_it_hands_out(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        _, descriptors = dial(daemon, server.getsockname()[1])
        accepted, _ = server.accept()
        os.close(descriptors[0])
        with accepted:
            accepted.settimeout(10)
            assert accepted.recv(1) == b""


def test_a_port_without_a_listener_is_refused(daemon: Daemon) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        answer = daemon.ask("dial", port=port)
    assert (answer["ok"], answer["code"]) == (False, "CONNECTION_REFUSED")
    assert answer["error"] == f"nothing listens on port {port}: Connection refused"


@pytest.mark.parametrize("port", [0, -1, 65536, "80", None, True, 1.5])
def test_what_is_no_port_is_refused(daemon: Daemon, port: Any) -> None:
    assert daemon.ask("dial", port=port)["code"] == "INVALID_PORT"


def test_nothing_is_dialled_before_the_release(held: Daemon) -> None:
    assert held.ask("dial", port=80)["code"] == "NOT_RELEASED"


def test_health_tells_whether_it_is_held(held: Daemon) -> None:
    assert held.ask("health") == {
        "ok": True,
        "version": "0.1.0",
        "protocol": 1,
        "held": True,
        "uptime_secs": 0,
    }
    held.ask("go", token="t")
    assert held.ask("health")["held"] is False


class TestGo:
    def test_the_same_token_again_is_the_same_answer(self, held: Daemon) -> None:
        for _ in range(2):
            assert held.ask("go", token="the-token", entrypoint=["true"]) == {"ok": True}
        assert len(held.http.get("processes").json()["processes"]) == 1

    def test_another_token_is_refused(self, held: Daemon) -> None:
        held.ask("go", token="the-token")
        assert held.ask("go", token="other")["code"] == "ALREADY_RELEASED"
        assert held.http.get("info").status_code == 200

    @pytest.mark.parametrize("fields", [{}, {"token": ""}, {"token": 1}, {"token": "t", "env": 1}])
    def test_it_must_be_whole(self, held: Daemon, fields: dict[str, Any]) -> None:
        assert held.ask("go", **fields)["code"] == "INVALID_REQUEST"
        assert held.ask("health")["held"] is True

    def test_the_entrypoint_is_an_ordinary_process(self, held: Daemon) -> None:
        entrypoint = ["sh", "-c", "echo $SECRET; cat"]
        held.ask("go", token="the-token", env={"SECRET": "s"}, entrypoint=entrypoint)
        (info,) = held.http.get("processes").json()["processes"]
        assert (info["command"], info["args"]) == ("sh", entrypoint[1:])
        assert info["stdin_writable"] is True
        held.http.post(f"processes/{info['pid']}/stdin", content=b"in")
        held.http.post(f"processes/{info['pid']}/stdin/close")
        assert [event.get("line") for event in held.follow(info["pid"])] == ["s", "in", None]

    def test_an_entrypoint_that_fails_is_told_to_the_log(self, held: Daemon) -> None:
        assert held.ask("go", token="the-token", entrypoint=["/no/such"]) == {"ok": True}
        assert held.http.get("info").status_code == 200
        assert held.log() == (
            "longshore-daemon: entrypoint: cannot start '/no/such': No such file or directory\n"
        )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", "INVALID_REQUEST"),
        (b"[]", "INVALID_REQUEST"),
        (b'{"op":"health"}', "INVALID_REQUEST"),
        (b'{"v":2,"op":"health"}', "UNSUPPORTED_VERSION"),
        (b'{"v":1,"op":"other"}', "UNKNOWN_OPERATION"),
        (b'{"v":1}', "INVALID_REQUEST"),
    ],
)
def test_a_request_that_is_not_understood_is_answered(held: Daemon, line: bytes, code: str) -> None:
    with held.connect("control.sock") as sock:
        sock.sendall(line + b'\n{"v":1,"op":"health"}\n')
        lines = sock.makefile("rb")
        assert code.encode() in lines.readline()
        assert b'"ok":true' in lines.readline()


def test_a_request_without_end_is_hung_up_on(held: Daemon) -> None:
    with held.connect("control.sock") as sock:

        def feed() -> None:
            try:
                sock.sendall(b"x" * 6_000_000)
            except OSError:
                return

        feeder = threading.Thread(target=feed)
        feeder.start()
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(10) == b""
        feeder.join()
    assert held.ask("health")["ok"]


class TestStop:
    def test_it_leaves_no_process(self, daemon: Daemon, wait_gone: Callable[[int], None]) -> None:
        script = "trap '' TERM; sleep 100 & echo $!; while :; do sleep 1; done"
        stubborn = daemon.start("sh", "-c", script)["pid"]
        child = int(next(daemon.events(f"processes/{stubborn}/stdout/follow"))["line"])
        quiet = daemon.start("sleep", "100")["pid"]
        assert daemon.ask("stop", grace_seconds=0.2) == {"ok": True}
        assert daemon.process.wait(10) == 0
        for pid in (stubborn, child, quiet):
            wait_gone(pid)

    def test_processes_get_their_grace(self, daemon: Daemon, tmp_path: Path) -> None:
        tidy = f"trap 'sleep 0.2; echo x >{tmp_path}/tidied; exit' TERM"
        script = f"{tidy}; echo up; while :; do sleep 0.01; done"
        pid = daemon.start("sh", "-c", script)["pid"]
        assert next(daemon.events(f"processes/{pid}/stdout/follow"))["line"] == "up"
        daemon.ask("stop")
        assert daemon.process.wait(10) == 0
        assert (tmp_path / "tidied").exists()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_does_the_same(
        self, daemon: Daemon, number: int, wait_gone: Callable[[int], None]
    ) -> None:
        pid = daemon.start("sleep", "100")["pid"]
        daemon.process.send_signal(number)
        assert daemon.process.wait(10) == 0
        wait_gone(pid)

    def test_a_held_one_just_ends(self, held: Daemon) -> None:
        held.ask("stop")
        assert held.process.wait(10) == 0

    def test_nothing_starts_any_more(self, daemon: Daemon) -> None:
        script = "trap '' TERM; echo up; sleep 100; sleep 100"
        pid = daemon.start("sh", "-c", script)["pid"]
        assert next(daemon.events(f"processes/{pid}/stdout/follow"))["line"] == "up"
        daemon.ask("stop", grace_seconds=1)
        answer = daemon.http.post("processes", json={"command": "true"})
        assert (answer.status_code, answer.json()["code"]) == (503, "STOPPING")

    @pytest.mark.parametrize("mounts", [True, False])
    def test_it_leaves_no_files_even_when_it_is_killed(
        self, guest: Guest, start: Callable[..., Daemon], tmp_path: Path, mounts: bool
    ) -> None:
        asked = ContainerSpec(id=ContainerId("c"), argv=(), env={"TMPDIR": str(tmp_path)})
        argv = guest.launch(asked, Facts(mounts=False)).argv
        daemon = start(argv, guest.launch(asked, Facts(mounts=mounts)).env)
        daemon.ask("go", token="the-token")
        daemon.run("/bin/echo", "x")
        descriptors = Path(f"/proc/{daemon.process.pid}/fd").iterdir()
        targets = [os.readlink(descriptor) for descriptor in descriptors]
        kept = str(tmp_path if mounts else daemon.sockets)
        assert len([path for path in targets if path.startswith(f"{kept}/.longshore-")]) == 2
        daemon.process.kill()
        daemon.process.wait(10)
        assert list(tmp_path.iterdir()) == []
        assert [path.suffix for path in daemon.sockets.iterdir()] == [".sock"] * 3
