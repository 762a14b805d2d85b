from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from longshore_daemon.inside.loop import Loop, Wait, pause
from longshore_daemon.inside.process import Command
from longshore_daemon.inside.processes import Processes
from longshore_daemon.inside.store import Store
from longshore_daemon.inside.terminal import Onlooker, Size, Terminal
from longshore_daemon.inside.terminals import Patience, Terminals

from tests.machine import fair_time

Daemon = Any
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
TOKEN = b"Longshore-Sandbox-Token: the-token\r\n"
NOISE = "i=0; while [ $i -lt 9 ]; do head -c 300000 /dev/zero | tr '\\0' x; i=$((i+1)); done; "


def show(daemon: Daemon, session: dict[str, str]) -> dict[str, Any]:
    response = daemon.http.get(f"pty/{session['session_id']}")
    assert response.status_code == 200
    return dict(response.json())


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class TestSessions:
    def test_a_session_is_created_shown_and_listed(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "exec sleep 100", rows=30, cols=100)
        assert re.fullmatch(r"[\w-]{21}", session["session_id"])
        assert re.fullmatch(r"[0-9a-f]{64}", session["token"])
        info = show(daemon, session)
        created, pid = info.pop("created_at"), info.pop("pid")
        assert abs(created - time.time() * 1000) < 10_000
        assert os.getsid(pid) == pid
        assert info == {
            "session_id": session["session_id"],
            "command": "sh",
            "args": ["-c", "exec sleep 100"],
            "rows": 30,
            "cols": 100,
            "is_alive": True,
        }
        (listed,) = daemon.http.get("pty").json()["sessions"]
        assert listed == show(daemon, session)

    @pytest.mark.parametrize(
        ("given", "rows", "columns"),
        [
            ({}, 24, 80),
            ({"rows": None}, 24, 80),
            ({"rows": 0, "cols": -1}, 1, 1),
            ({"rows": 9999, "cols": 1 << 40}, 500, 1000),
        ],
    )
    def test_sizes_are_clamped(
        self, daemon: Daemon, given: dict[str, Any], rows: int, columns: int
    ) -> None:
        session = daemon.open_pty("stty", "size", **given)
        assert (show(daemon, session)["rows"], show(daemon, session)["cols"]) == (rows, columns)
        with daemon.attach(session) as socket:
            socket.ready()
            assert socket.receive_rest() == (f"{rows} {columns}\r\n".encode(), 1000, "exit:0")

    def test_a_program_has_a_terminal_of_its_own(self, daemon: Daemon) -> None:
        script = "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && : </dev/tty && echo $TERM $FROM_GO"
        with daemon.attach(daemon.open_pty("sh", "-c", script)) as socket:
            socket.ready()
            shown, *end = socket.receive_rest()
        assert re.fullmatch(rb"/dev/pts/\d+\r\nxterm-256color yes\r\n", shown)
        assert end == [1000, "exit:0"]

    def test_a_program_gets_no_descriptors_of_ours(self, daemon: Daemon) -> None:
        with daemon.attach(daemon.open_pty("sh", "-c", "ls /proc/$$/fd")) as socket:
            socket.ready()
            assert socket.receive_rest()[0].split() == [b"0", b"1", b"2"]

    def test_what_has_ended_says_how(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "exit 7")
        until(lambda: not show(daemon, session)["is_alive"], "it ends")
        info = show(daemon, session)
        assert info["exit_code"] == 7
        assert info["ended_at"] >= info["created_at"]
        with daemon.attach(session) as socket:
            socket.ready()
            assert socket.receive_rest() == (b"", 1000, "exit:7")

    def test_a_program_ended_by_a_signal_has_no_exit_code(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "kill -KILL $$")
        with daemon.attach(session) as socket:
            socket.ready()
            assert socket.receive_rest() == (b"", 1000, "exit:-1")
        info = show(daemon, session)
        assert "exit_code" not in info
        assert info["signal"] == 9

    def test_it_is_resized(self, daemon: Daemon) -> None:
        script = "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.05; done"
        session = daemon.open_pty("sh", "-c", script)
        with daemon.attach(session) as socket:
            socket.ready()
            socket.receive_until(b"up\r\n")
            path = f"pty/{session['session_id']}/resize"
            assert daemon.http.post(path, json={"rows": 11, "cols": 2222}).status_code == 204
            assert socket.receive_rest() == (b"11 1000\r\n", 1000, "exit:0")
        assert (show(daemon, session)["rows"], show(daemon, session)["cols"]) == (11, 1000)
        assert daemon.http.post(path, json={"rows": 1, "cols": 1}).status_code == 204

    def test_no_more_than_64_run_at_once(self, daemon: Daemon) -> None:
        sessions = [daemon.open_pty("sleep", "100") for _ in range(64)]
        children = os.listdir(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}")
        answer = daemon.http.post("pty", json={"command": "touch", "args": ["/nowhere/at/all"]})
        assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_SESSIONS")
        assert os.listdir(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}") == children
        assert len(daemon.http.get("pty").json()["sessions"]) == 64
        assert daemon.http.delete(f"pty/{sessions[0]['session_id']}").status_code == 204
        until(lambda: len(daemon.http.get("pty").json()["sessions"]) == 63, "one is gone")
        daemon.open_pty("true")

    def test_ended_ones_give_way_to_new_ones(self, daemon: Daemon) -> None:
        first = daemon.open_pty("true")
        until(lambda: not show(daemon, first)["is_alive"], "it ends")
        for _ in range(64):
            daemon.open_pty("sleep", "100")
        assert daemon.http.get(f"pty/{first['session_id']}").status_code == 404

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", ""), ("DELETE", ""), ("POST", "/resize")],
    )
    def test_a_session_that_is_not_there_is_not_found(
        self, daemon: Daemon, method: str, path: str
    ) -> None:
        answer = daemon.http.request(method, f"pty/nobody{path}", json={"rows": 1, "cols": 1})
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        assert answer.json()["error"] == "PTY session nobody not found"

    def test_a_program_that_cannot_be_started_is_told(self, daemon: Daemon) -> None:
        answer = daemon.http.post("pty", json={"command": "/no/such/file"})
        assert (answer.status_code, answer.json()["code"]) == (400, "SPAWN_FAILED")
        assert answer.json()["error"] == "cannot start '/no/such/file': No such file or directory"
        assert daemon.http.get("pty").json() == {"sessions": []}


class TestJobControl:
    def test_control_c_reaches_the_foreground_alone(self, daemon: Daemon) -> None:
        session = daemon.open_pty("bash", "--norc", "--noprofile", "-i", env={"PS1": "$ "})
        with daemon.attach(session) as socket:
            socket.ready()
            socket.receive_until(b"$ ")
            socket.type(b"sh -c 'echo start\"\"ed; exec sleep 100'\n")
            socket.receive_until(b"started\r\n")
            socket.type(b"\x03")
            socket.receive_until(b"^C\r\n")
            socket.type(b"exit 5\n")
            assert socket.receive_rest()[1:] == (1000, "exit:5")

    def test_jobs_are_stopped_and_continued(self, daemon: Daemon) -> None:
        session = daemon.open_pty("bash", "--norc", "--noprofile", "-i", env={"PS1": "$ "})
        with daemon.attach(session) as socket:
            socket.ready()
            socket.receive_until(b"$ ")
            socket.type(b"sh -c 'echo start\"\"ed; exec cat'\n")
            socket.receive_until(b"started\r\n")
            socket.type(b"\x1a")
            assert b"Stopped" in socket.receive_until(b"$ ")
            socket.type(b"fg\n")
            socket.type(b"again\n")
            socket.receive_until(b"again\r\n")
            socket.type(b"\x04")
            socket.receive_until(b"$ ")
            socket.type(b"exit\n")
            assert socket.receive_rest()[1:] == (1000, "exit:0")


class TestEnds:
    def test_delete_hangs_up(self, daemon: Daemon, wait_gone: Callable[[int], None]) -> None:
        session = daemon.open_pty("sh", "-c", "echo up; sleep 100")
        pid = show(daemon, session)["pid"]
        with daemon.attach(session) as socket:
            socket.ready()
            socket.receive_until(b"up\r\n")
            assert daemon.http.delete(f"pty/{session['session_id']}").status_code == 204
            assert socket.receive_rest() == (b"", 1001, "session terminated")
        wait_gone(pid)
        until(lambda: daemon.http.get("pty").json() == {"sessions": []}, "it is forgotten")

    def test_delete_kills_what_does_not_heed(
        self, daemon: Daemon, wait_gone: Callable[[int], None]
    ) -> None:
        script = "trap '' HUP; sleep 100 & echo $!; while :; do sleep 1; done"
        session = daemon.open_pty("sh", "-c", script)
        with daemon.attach(session) as socket:
            socket.ready()
            child = int(socket.receive_until(b"\r\n"))
            began, fair = time.monotonic(), fair_time()
            daemon.http.delete(f"pty/{session['session_id']}")
            assert socket.receive_rest() == (b"", 1001, "session terminated")
        assert time.monotonic() - began > 4
        assert fair_time() - fair < 8
        wait_gone(child)

    def test_deleting_a_finished_one_is_no_error(self, daemon: Daemon) -> None:
        session = daemon.open_pty("true")
        until(lambda: not show(daemon, session)["is_alive"], "it ends")
        assert daemon.http.delete(f"pty/{session['session_id']}").status_code == 204

    def test_a_stopping_sandbox_tells_those_who_look_on(self, daemon: Daemon) -> None:
        session = daemon.open_pty("bash", "--norc", "-i")
        with daemon.attach(session) as socket:
            socket.ready()
            socket.receive()
            began = fair_time()
            assert daemon.ask("stop", grace_seconds=20)["ok"]
            assert socket.receive_rest()[1:] == (1001, "session terminated")
        assert daemon.process.wait(10) == 0
        assert fair_time() - began < 5

    def test_one_that_hangs_up_leaves_no_trace(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sleep", "100")
        before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        for number in range(20):
            with daemon.attach(session) as socket:
                if number % 2:
                    socket.ready()
        until(
            lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= before, "nothing is left"
        )


class TestStreams:
    def test_nothing_is_shown_before_ready_and_then_everything(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "echo first; read x; echo got $x; exit 3")
        with daemon.attach(session) as early, daemon.attach(session) as late:
            early.ready()
            early.receive_until(b"first\r\n")
            late.send(PING, b"still there?")
            assert late.receive() == (PONG, b"still there?")
            early.type(b"word\n")
            assert early.receive_rest() == (b"word\r\ngot word\r\n", 1000, "exit:3")
            late.ready()
            assert late.receive_rest() == (b"first\r\nword\r\ngot word\r\n", 1000, "exit:3")

    def test_bytes_pass_as_they_are(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "stty raw -echo; echo up; head -c 256")
        with daemon.attach(session) as socket:
            socket.ready()
            socket.receive_until(b"up\n")
            socket.type(bytes(range(256)))
            assert socket.receive_rest() == (bytes(range(256)), 1000, "exit:0")

    def test_a_slow_reader_gets_all_of_a_lot(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", f"stty -opost; read x; {NOISE} echo end")
        with daemon.attach(session) as socket:
            socket.ready()
            socket.type(b"\n")
            time.sleep(0.5)
            shown, *end = socket.receive_rest()
        assert shown.count(b"x") == 2_700_000
        assert shown.endswith(b"xend\n")
        assert end == [1000, "exit:0"]

    def test_the_program_waits_for_a_reader_who_stalls(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", f"read x; {NOISE} exit 0")
        with daemon.attach(session) as socket:
            socket.ready()
            socket.type(b"\n")
            time.sleep(0.5)
            assert show(daemon, session)["is_alive"]
            assert daemon.run("echo", "well")[1]["line"] == "well"

    def test_one_who_falls_behind_the_others_is_told(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", f"read x; {NOISE * 4} echo end")
        with daemon.attach(session) as quick, daemon.attach(session) as slow:
            quick.ready()
            slow.ready()
            quick.type(b"\n")
            shown, *end = quick.receive_rest()
            assert shown.count(b"x") == 4 * 2_700_000
            assert end == [1000, "exit:0"]
            shown, code, reason = slow.receive_rest()
        assert 0 < shown.count(b"x") < 4 * 2_700_000
        assert code == 1008
        assert re.fullmatch(r"output lagged by [1-9]\d* messages", reason)

    def test_history_is_bounded(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", f"{NOISE} echo end")
        until(lambda: not show(daemon, session)["is_alive"], "it ends")
        with daemon.attach(session) as socket:
            socket.ready()
            shown, *end = socket.receive_rest()
        assert len(shown) == 1 << 20
        assert shown.endswith(b"xend\r\n")
        assert end == [1000, "exit:0"]

    def test_one_who_is_never_ready_is_told_after_a_while(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", f"read x; {NOISE} sleep 100")
        with daemon.attach(session) as socket:
            socket.type(b"\n")
            assert socket.receive_rest() == (b"", 1008, "pre-ready buffer overflow")

    def test_resizing_over_the_socket(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "read x; stty size")
        with daemon.attach(session) as socket:
            socket.ready()
            socket.send(BINARY, b"\x01" + struct.pack("!HH", 132, 43))
            socket.send(BINARY, b"\x01\x00")
            socket.type(b"\n")
            assert socket.receive_rest() == (b"\r\n43 132\r\n", 1000, "exit:0")

    def test_what_is_not_understood_is_ignored(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "read x; echo got $x")
        with daemon.attach(session) as socket:
            for opcode, data in [(TEXT, b"\x00no\n"), (BINARY, b"\x07no\n"), (BINARY, b"")]:
                socket.send(opcode, data)
            socket.ready()
            socket.ready()
            socket.type(b"yes\n")
            assert socket.receive_rest() == (b"yes\r\ngot yes\r\n", 1000, "exit:0")

    def test_a_message_in_fragments_is_one(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "read x; echo got $x")
        with daemon.attach(session) as socket:
            socket.ready()
            socket.send(BINARY, b"\x00ab", final=False)
            socket.send(PING, b"between")
            socket.send(0, b"c\n")
            shown, *end = socket.receive_rest()
        assert (shown, end) == (b"abc\r\ngot abc\r\n", [1000, "exit:0"])

    def test_typing_at_a_program_that_does_not_read_holds_up_nobody(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sh", "-c", "stty raw -echo; echo up; sleep 100")
        with daemon.attach(session) as typist, daemon.attach(session) as other:
            typist.ready()
            typist.receive_until(b"up\n")
            for _ in range(2):
                typist.type(b"y" * 65000)
            other.ready()
            assert other.receive_until(b"up\n")
            path = f"pty/{session['session_id']}/resize"
            assert daemon.http.post(path, json={"rows": 1, "cols": 1}).status_code == 204

    def test_a_clients_goodbye_is_answered(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sleep", "100")
        with daemon.attach(session) as socket:
            socket.send(CLOSE, b"\x03\xe8bye")
            assert socket.receive() == (CLOSE, b"\x03\xe8")
            assert socket.file.read(1) == b""
        assert show(daemon, session)["is_alive"]


class TestAttacks:
    @pytest.mark.parametrize("given", ["", "?token=", "?token=wrong", "?token=%ff", "?token=%00"])
    def test_a_wrong_token_is_refused(self, daemon: Daemon, given: str) -> None:
        session = daemon.open_pty("sleep", "100")
        for name in (session["session_id"], "nobody"):
            answer = daemon.http.get(f"pty/{name}/ws{given}")
            assert (answer.status_code, answer.json()["code"]) == (403, "INVALID_TOKEN")
            assert answer.json()["error"] == "Invalid token"

    def test_the_token_may_be_in_a_header(self, daemon: Daemon) -> None:
        session = daemon.open_pty("echo", "x")
        headers = TOKEN + b"X-PTY-Token: %b\r\n" % session["token"].encode()
        with daemon.websocket(f"pty/{session['session_id']}/ws", headers=headers) as socket:
            assert socket.status == 101
            socket.ready()
            assert socket.receive_rest() == (b"x\r\n", 1000, "exit:0")

    def test_the_sandboxs_token_is_wanted_besides(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sleep", "100")
        target = f"pty/{session['session_id']}/ws?token={session['token']}"
        with daemon.websocket(target, headers=b"") as socket:
            assert socket.status == 401

    def test_the_token_is_not_shown_again(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sleep", "100")
        assert session["token"] not in daemon.http.get("pty").text
        assert session["token"] not in daemon.http.get(f"pty/{session['session_id']}").text

    def test_a_handshake_must_be_one(self, daemon: Daemon) -> None:
        session = daemon.open_pty("sleep", "100")
        target = f"pty/{session['session_id']}/ws?token={session['token']}"
        answer = daemon.http.get(target)
        assert (answer.status_code, answer.json()["code"]) == (426, "UPGRADE_REQUIRED")
        assert answer.headers["sec-websocket-version"] == "13"
        headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        answer = daemon.http.get(target, headers={**headers, "Sec-WebSocket-Key": "short"})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")

    def test_frames_that_are_not_masked_are_refused(self, daemon: Daemon) -> None:
        with daemon.attach(daemon.open_pty("sleep", "100")) as socket:
            socket.send(BINARY, b"\x02", masked=False)
            assert socket.receive_rest() == (b"", 1002, "a frame is not masked")
            assert socket.file.read(1) == b""

    @pytest.mark.parametrize("parts", [1, 3])
    def test_a_message_that_is_too_long_is_refused(self, daemon: Daemon, parts: int) -> None:
        with daemon.attach(daemon.open_pty("sleep", "100")) as socket:
            data = bytes(65537 // parts + 1)
            for part in range(parts):
                socket.send(BINARY if part == 0 else 0, data, final=part == parts - 1)
            assert socket.receive_rest()[1:] == (1009, "a message is longer than 65536 bytes")

    def test_a_frame_that_only_says_it_is_long_costs_nothing(self, daemon: Daemon) -> None:
        with daemon.attach(daemon.open_pty("sleep", "100")) as socket:
            socket.sock.sendall(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + b"mask" + bytes(70000))
            assert socket.receive_rest()[1:] == (1009, "a message is longer than 65536 bytes")

    def test_too_much_input_at_once_is_refused(self, daemon: Daemon) -> None:
        script = "stty raw -echo; echo up; exec cat > /dev/null"
        with daemon.attach(daemon.open_pty("sh", "-c", script)) as socket:
            socket.ready()
            socket.receive_until(b"up\n")
            # All at once, and masked with nothing: a slow machine would be within the rate.
            typed = b"\x82\xfe" + (65001).to_bytes(2, "big") + bytes(4) + b"\0" + b"y" * 65000
            socket.sock.sendall(typed * 20)
            assert socket.receive_rest() == (b"", 1008, "input rate limit exceeded")

    def test_pings_whose_answers_nobody_reads_are_not_hoarded(self, daemon: Daemon) -> None:
        with daemon.attach(daemon.open_pty("sleep", "100")) as socket:
            socket.sock.settimeout(0.5)
            # Masked with nothing, so that the bytes are quickly made.
            pings = (b"\x89\xfd" + bytes(4 + 125)) * 100_000
            with pytest.raises(TimeoutError):
                socket.sock.sendall(pings)
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) < 20_000


class TestPatience:
    """In this process, where it can be made short."""

    @staticmethod
    def live(tmp_path: Path, patience: Patience, script: str, story: Callable[..., Any]) -> None:
        loop = Loop()
        processes = Processes(loop, dict(os.environ), Store((str(tmp_path),)))
        terminals = Terminals(loop, processes, patience)

        async def main() -> None:
            command = Command("sh", ["-c", script])
            await story(terminals, terminals.open(command, Size(24, 80)), processes)
            told.append(script)

        told = list[str]()
        loop.run(main())
        assert told, "the story broke off: a loop lets no error out"

    def test_nobody_looking_on_for_long_ends_it(self, tmp_path: Path) -> None:
        async def story(terminals: Any, terminal: Any, processes: Any) -> None:
            onlooker = Onlooker()
            terminal.attend(onlooker)
            await Wait(deadline=time.monotonic() + 0.5)
            assert terminal.running
            terminal.leave(onlooker)
            began = time.monotonic()
            while terminal.running:
                await Wait(deadline=time.monotonic() + 0.01)
                processes.reap()
            assert time.monotonic() - began > 0.25
            assert terminal.signal == 9
            while terminals.all():
                await pause()
            assert terminal.removed

        self.live(tmp_path, Patience(alone=0.3), "trap '' HUP; sleep 100", story)

    def test_what_has_ended_is_forgotten_after_a_while(self, tmp_path: Path) -> None:
        async def story(terminals: Any, terminal: Any, processes: Any) -> None:
            while terminal.running:
                await Wait(deadline=time.monotonic() + 0.01)
                processes.reap()
            began = time.monotonic()
            while terminals.all():
                await Wait(deadline=time.monotonic() + 0.01)
            assert time.monotonic() - began > 0.25
            assert processes.others == {}

        self.live(tmp_path, Patience(kept=0.3), "exit 0", story)

    def test_one_that_gets_the_number_of_an_ended_one_ends_as_well(self, tmp_path: Path) -> None:
        async def story(terminals: Any, terminal: Any, processes: Any) -> None:
            while terminal.running:
                await Wait(deadline=time.monotonic() + 0.01)
                processes.reap()
            process = processes.spawn(Command("true", []))
            # What the kernel does when the numbers have gone round.
            processes.others[process.pid] = processes.others.pop(terminal.pid)
            deadline = time.monotonic() + 10
            while process.running:
                assert time.monotonic() < deadline
                processes.reap()
                await pause()
            assert process.exit_code == 0

        self.live(tmp_path, Patience(), "exit 0", story)


def test_what_those_write_who_stay_behind_is_read_to_a_bound() -> None:
    """The end of its program is told, however fast they are."""
    without_end = os.open("/dev/zero", os.O_RDONLY)
    terminal = Terminal((os.getpid(), "mark"), without_end, Command("sh", []), Size(24, 80))
    terminal.collect()
    assert terminal.total == 1 << 20
    os.close(without_end)
