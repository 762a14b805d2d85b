"""`longshore sandbox` against a whole system, as a shell runs it and as a terminal does."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from longshore import Sandbox

from tests.machine import fair_time
from tests.system.harness import System, free_port, system, until
from tests.system.test_sdk import first_process

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]
PATIENCE = 150.0
LONGSHORE = [sys.executable, "-m", "longshore", "sandbox"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with (
        system(tmp_path_factory.mktemp("cli")) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("LONGSHORE_API_URL", f"http://127.0.0.1:{started.http_port}")
        patch.delenv("NO_COLOR", raising=False)
        patch.setenv("TERM", "xterm-256color")
        started.start_all()
        yield started


@pytest.fixture(scope="module")
def sandbox(whole: System) -> Iterator[Sandbox]:
    with Sandbox.create() as created:
        yield created


def cli(*words: str, data: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*LONGSHORE, *words],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        **options,  # type: ignore[call-overload]  # subprocess's own
    )


def said(*words: str) -> str:
    """Standard output of one that must succeed."""
    done = cli(*words)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


class Terminal:
    """The command at a terminal, and what that shows."""

    def __init__(self, *words: str, columns: int = 80, rows: int = 24) -> None:
        self.own, theirs = pty.openpty()
        self.before = termios.tcgetattr(theirs)
        self.resize(columns, rows)
        self.theirs = theirs
        self.shown = b""
        self.process = subprocess.Popen(
            [*LONGSHORE, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.own, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.own, text.encode())

    def until(self, pattern: str) -> re.Match[bytes]:
        """Read on until it shows that; what comes before is passed over by the next one."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern.encode(), self.shown, re.DOTALL)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not in {self.shown!r}"
            self.read(left)
        self.shown = self.shown[found.end() :]
        return found

    def read(self, seconds: float) -> None:
        if select.select([self.own], [], [], seconds)[0]:
            self.shown += os.read(self.own, 65536)

    def wait(self) -> int:
        """Its status; the terminal must be as it was."""
        until(lambda: self.read(0.05) or self.process.poll() is not None, "it has ended", PATIENCE)
        assert termios.tcgetattr(self.theirs) == self.before
        while select.select([self.own], [], [], 0)[0]:
            self.shown += os.read(self.own, 65536)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.own)
        os.close(self.theirs)


@contextmanager
def terminal(*words: str, **size: int) -> Iterator[Terminal]:
    opened = Terminal(*words, **size)
    try:
        yield opened
    finally:
        opened.close()


class TestLife:
    def test_a_sandbox_is_created_listed_shown_and_removed(self, whole: System) -> None:
        made = said("create", "some:image", "--cpus", "0.5", "--lifetime", "7200").strip()
        (row,) = [line for line in said("ls").splitlines() if line.startswith(made)]
        columns = re.split(r" {2,}", row)
        assert columns[:4] == [made, "-", "running", "some:image"]
        assert columns[5:] == ["119m", "0.5", "1 GiB"]
        assert f"id         {made}\nstatus     running\n" in said("show", made)
        (shown,) = [one for one in json.loads(said("ls", "-o", "json")) if one["id"] == made]
        assert (shown["image"], shown["lifetime_seconds"]) == ("some:image", 7200)
        assert shown["created_at"].endswith("Z")
        assert made in said("ls", "-q").split()
        assert said("rm", made) == f"{made}\n"
        assert made not in said("ls", "-q")
        assert made in said("ls", "-qa")
        assert "outcome    Success(UserTerminated)" in said("show", made)

    def test_what_is_not_there_is_one_line_with_the_next_step(self, whole: System) -> None:
        for words in (("show", "nobody"), ("rm", "nobody"), ("logs", "nobody")):
            done = cli(*words)
            assert (done.returncode, done.stdout) == (3, b"")
            assert done.stderr == b"error: no sandbox 'nobody'; see `longshore sandbox ls`\n"
        assert cli("rm", "-f", "nobody").returncode == 0
        assert cli("rm", "-f").returncode == 0

    def test_one_that_has_ended_is_told_apart(self, whole: System) -> None:
        with Sandbox.create() as ended:
            pass
        done = cli("logs", ended.id)
        assert (done.returncode, done.stderr.count(b"\n")) == (4, 1)
        assert b"the sandbox has ended: Success(UserTerminated); see" in done.stderr

    def test_a_server_that_is_not_there_is_told_with_what_to_do(self, whole: System) -> None:
        done = cli("ls", "--api-url", f"http://127.0.0.1:{free_port()}")
        assert (done.returncode, done.stderr.count(b"\n")) == (5, 1)
        assert b"start a system with `longshore up`, or name yours with --api-url" in done.stderr

    def test_the_key_comes_from_a_file_never_from_the_command_line(
        self, whole: System, tmp_path: Path
    ) -> None:
        key = tmp_path / "key"
        key.write_text("secret\n")
        assert cli("ls", "--api-key-file", str(key)).returncode == 0
        assert cli("ls", "--api-key-file", "-", data=b"secret").returncode == 0
        key.write_text("\n")
        done = cli("ls", "--api-key-file", str(key))
        assert done.returncode == 2
        assert done.stderr == f"error: {key} has no API key: one line of ASCII is wanted\n".encode()

    def test_several_are_removed_although_one_is_not_there(self, whole: System) -> None:
        one, other = Sandbox.create(), Sandbox.create()
        one.detach()
        other.detach()
        done = cli("rm", one.id, "nobody", other.id)
        assert (done.returncode, done.stdout.decode().split()) == (3, [one.id, other.id])

    def test_a_name_stands_for_the_id_everywhere(self, whole: System) -> None:
        created = cli("create", "--name", "crate")
        assert created.returncode == 0, created.stderr
        assert cli("exec", "crate", "echo", "hello").stdout == b"hello\n"
        assert b" crate " in cli("ls").stdout
        again = cli("create", "--name", "crate")
        assert (again.returncode, b"'crate' already" in again.stderr) == (1, True), again.stderr
        assert cli("rm", "crate").returncode == 0
        assert cli("show", "crate").returncode == 3


class TestExec:
    @pytest.mark.parametrize("kind", ["pipe", "file"])
    def test_bytes_pass_as_they_are(self, sandbox: Sandbox, tmp_path: Path, kind: str) -> None:
        data = os.urandom(5_000_000) + b"\0\r\n\xff"
        words = ["exec", "-i", sandbox.id, "tee", "/dev/stderr"]
        if kind == "pipe":
            done = cli(*words, data=data)
        else:
            (tmp_path / "data").write_bytes(data)
            with (tmp_path / "data").open("rb") as file:
                done = subprocess.run(
                    [*LONGSHORE, *words], stdin=file, capture_output=True, check=False
                )
        assert done.returncode == 0
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
        assert hashlib.sha256(done.stderr).digest() == hashlib.sha256(data).digest()

    @pytest.mark.parametrize(
        ("command", "status"),
        [
            (["sh", "-c", "exit 7"], 7),
            (["sh", "-c", "kill -TERM $$"], 143),
            (["nonesuch"], 127),
            (["/etc/passwd"], 126),
            (["--", "true"], 0),
        ],
    )
    def test_its_status_is_that_of_the_command(
        self, sandbox: Sandbox, command: list[str], status: int
    ) -> None:
        assert cli("exec", sandbox.id, *command).returncode == status

    def test_its_own_failures_are_told_apart(self, sandbox: Sandbox) -> None:
        assert cli("exec", "nobody", "true").returncode == 125
        assert cli("exec", "--timeout", "0.3", sandbox.id, "sleep", "60").returncode == 124
        done = cli("exec")
        assert done.returncode == 2
        wanted = b"error: missing argument 'SANDBOX'; see `longshore sandbox exec --help`\n"
        assert done.stderr == wanted
        done = cli("exec", "-it", sandbox.id, "sh")
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
        assert b"for a pipe, -i alone is enough" in done.stderr

    def test_environment_and_directory_are_as_asked_for(self, sandbox: Sandbox) -> None:
        words = ["-e", "A=b=c", "-e", "MINE", "-e", "NOT_THERE", "-w", "/usr"]
        script = 'echo "$A $MINE ${NOT_THERE-unset}"; pwd'
        env = {**os.environ, "MINE": "passed on"}
        done = cli("exec", *words, sandbox.id, "sh", "-c", script, env=env)
        assert done.stdout == b"b=c passed on unset\n/usr\n"

    def test_without_i_nothing_is_read(self, sandbox: Sandbox) -> None:
        assert cli("exec", sandbox.id, "cat", data=b"not wanted").stdout == b""

    def test_a_command_that_reads_no_more_is_no_error(self, sandbox: Sandbox) -> None:
        done = cli("exec", "-i", sandbox.id, "head", "-c", "3", data=b"abc" * 1_000_000)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"abc", b"")

    def test_an_interrupt_reaches_the_command_and_a_second_one_kills_it(
        self, sandbox: Sandbox
    ) -> None:
        script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done"
        process = subprocess.Popen(
            [*LONGSHORE, "exec", sandbox.id, "sh", "-c", script], stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"caught\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 128 + signal.SIGKILL

    def test_a_reader_that_goes_away_takes_the_command_with_it(self, sandbox: Sandbox) -> None:
        process = subprocess.Popen(
            [*LONGSHORE, "exec", "--name", "endless", sandbox.id, "yes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(PATIENCE) == 1
            assert process.stderr.read() == b""
        assert [one.running for one in sandbox.processes() if one.name == "endless"] == [False]

    def test_a_sandbox_that_is_killed_is_told_of_in_time(self, whole: System) -> None:
        with Sandbox.create() as doomed:
            process = subprocess.Popen(
                [*LONGSHORE, "exec", doomed.id, "sh", "-c", "echo ready; sleep 60"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with process:
                assert process.stdout is not None
                assert process.stderr is not None
                process.stdout.readline()
                os.kill(first_process(whole, doomed), signal.SIGKILL)
                killed = fair_time()
                assert process.wait(PATIENCE) == 125
                assert fair_time() - killed < 2
                assert process.stderr.read().startswith(b"error: the sandbox has ended: ")


class TestTerminal:
    def test_a_shell_is_one(self, sandbox: Sandbox) -> None:
        with terminal("shell", sandbox.id, columns=100, rows=30) as shown:
            shown.until("[#$>] ")
            shown.type("stty size\n")
            shown.until(r"30 100\r\n")
            shown.resize(90, 20)
            shown.until("[#$>] ")
            shown.type("sleep 0.2; stty size\n")
            shown.until(r"20 90\r\n")
            # What it says itself: before that, the key would be for the shell.
            shown.type("sh -c 'echo asleep; exec sleep 60'\n")
            shown.until(r"asleep\r\n")
            shown.type("\x03")
            shown.type("echo status $?\n")
            shown.until("status 130")
            shown.type("exit 7\n")
            assert shown.wait() == 7

    def test_every_key_is_for_the_command(self, sandbox: Sandbox) -> None:
        script = "stty raw -echo; echo ready; head -c 6 | od -An -tx1"
        with terminal("exec", "-it", sandbox.id, "sh", "-c", script) as shown:
            shown.until("ready")
            shown.type("\x03\x1a\x1c\x11\r\x04")
            shown.until("03 1a 1c 11 0d 04")
            assert shown.wait() == 0

    def test_the_end_that_is_typed_is_told_once(self, sandbox: Sandbox) -> None:
        with terminal("exec", "-i", sandbox.id, "cat") as shown:
            shown.type("line\n\x04")
            shown.until(r"line\r\nline\r\n")
            assert shown.wait() == 0

    def test_a_signal_that_ends_it_is_its_status(self, sandbox: Sandbox) -> None:
        with terminal("exec", "-it", sandbox.id, "sh", "-c", "kill -KILL $$") as shown:
            assert shown.wait() == 137

    def test_the_terminal_is_as_it_was_also_after_an_error(self, whole: System) -> None:
        with Sandbox.create() as doomed, terminal("shell", doomed.id) as shown:
            shown.until("[#$>] ")
            shown.type("echo $((6 * 7))\n")
            shown.until("42")
            os.kill(first_process(whole, doomed), signal.SIGKILL)
            shown.until("error: the sandbox has ended: [^\r\n]*; see [^\r\n]*\r\n")
            assert shown.wait() == 125

    def test_the_terminal_is_as_it_was_also_after_being_asked_to_end(
        self, sandbox: Sandbox
    ) -> None:
        with terminal("exec", "-it", sandbox.id, "sh", "-c", "echo ready; sleep 60") as shown:
            shown.until("ready")
            shown.process.terminate()
            assert shown.wait() == 143

    def test_colour_is_for_terminals_that_want_it(
        self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert b"\x1b" not in cli("ls").stdout
        with terminal("ls", columns=200) as shown:
            shown.until("\x1b\\[32mrunning")
            assert shown.wait() == 0
        monkeypatch.setenv("NO_COLOR", "1")
        with terminal("ls", columns=200) as shown:
            shown.until("running")
            assert shown.wait() == 0
            assert b"\x1b" not in shown.shown


class TestCopy:
    def test_a_file_goes_in_and_comes_out(self, sandbox: Sandbox, tmp_path: Path) -> None:
        (tmp_path / "a b").write_bytes(b"\0data")
        cli("cp", str(tmp_path / "a b"), f"{sandbox.id}:one", cwd=tmp_path)
        assert sandbox.files.read("one") == b"\0data"
        assert said("cp", f"{sandbox.id}:one", str(tmp_path)) == ""
        assert (tmp_path / "one").read_bytes() == b"\0data"

    def test_directories_keep_their_name_where_there_is_one_already(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "sub/file").write_text("x")
        for target, found in (("new", "new/sub/file"), ("new", "new/tree/sub/file")):
            said("cp", str(tree), f"{sandbox.id}:{target}")
            assert sandbox.files.read(found) == b"x"
        said("cp", f"{tree}/.", f"{sandbox.id}:")
        assert sandbox.files.read("sub/file") == b"x"
        back = tmp_path / "back"
        said("cp", f"{sandbox.id}:new/tree", str(back))
        assert (back / "sub/file").read_text() == "x"
        said("cp", f"{sandbox.id}:new/tree", str(back))
        assert (back / "tree/sub/file").read_text() == "x"

    def test_what_cannot_be_copied_is_one_line(self, sandbox: Sandbox, tmp_path: Path) -> None:
        done = cli("cp", f"{sandbox.id}:none", str(tmp_path))
        step = f"see what is there: `longshore sandbox exec {sandbox.id} ls -la`"
        said = f"error: File not found: none; {step}\n"
        assert (done.returncode, done.stderr.decode()) == (3, said)
        done = cli("cp", str(tmp_path / "none"), f"{sandbox.id}:")
        assert done.returncode == 2
        wanted = f"error: cannot copy {tmp_path}/none: No such file or directory\n"
        assert done.stderr.decode() == wanted
        assert b"one of the two must be SANDBOX:PATH" in cli("cp", "a", "b").stderr

    def test_progress_is_shown_on_a_terminal_only(self, sandbox: Sandbox, tmp_path: Path) -> None:
        with (tmp_path / "big").open("wb") as file:
            file.truncate(150_000_000)
        with terminal("cp", str(tmp_path / "big"), f"{sandbox.id}:") as shown:
            shown.until(r"big +(?:━)* +\d+%  [\d.]+ MB")
            shown.until(r"big: 150.0 MB in [\d.]+ s\r\n")
            assert shown.wait() == 0
        assert cli("cp", str(tmp_path / "big"), f"{sandbox.id}:").stderr == b""
        sandbox.files.remove("big")


class TestLogs:
    def test_one_process_comes_byte_for_byte(self, sandbox: Sandbox) -> None:
        pid = said("exec", "-d", "--name", "talk", sandbox.id, "printf", r"a\000\377")
        sandbox.process(int(pid)).wait()
        assert cli("logs", sandbox.id, pid.strip()).stdout == b"a\0\xff"
        assert cli("logs", sandbox.id, "talk").stdout == b"a\0\xff"
        done = cli("logs", sandbox.id, "nobody")
        assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)

    def test_several_say_who_they_are_and_following_goes_on_to_their_ends(
        self, whole: System
    ) -> None:
        with Sandbox.create() as fresh:
            wait = "until [ -e {0} ]; do sleep 0.05; done"
            fresh.start(f"echo one; {wait.format('b')}; echo last", name="first")
            fresh.start(f"{wait.format('a')}; echo two")
            process = subprocess.Popen([*LONGSHORE, "logs", "-f", fresh.id], stdout=subprocess.PIPE)
            with process:
                assert process.stdout is not None
                assert re.fullmatch(rb"==> \d+ first: .* <==\n", process.stdout.readline())
                assert process.stdout.readline() == b"one\n"
                assert cli("logs", fresh.id).stdout.endswith(b" <==\none\n")
                fresh.files.write("a", b"")
                assert re.fullmatch(rb"\n==> \d+: .* <==\n", b"".join(lines(process, 2)))
                assert lines(process, 1) == [b"two\n"]
                fresh.files.write("b", b"")
                assert re.fullmatch(rb"\n==> \d+ first: .* <==\n", b"".join(lines(process, 2)))
                assert process.stdout.read() == b"last\n"
                assert process.wait(PATIENCE) == 0


def lines(process: subprocess.Popen[bytes], count: int) -> list[bytes]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


class TestPort:
    def test_a_port_of_ours_leads_to_one_of_the_sandbox(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        remote = free_port()
        argv = [*LONGSHORE, "port", sandbox.id, f":{remote}"]
        with (
            sandbox.start([sys.executable, "-m", "http.server", str(remote), "-d", "/usr"]),
            subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
            ExitStack() as stack,
        ):
            # It would not end by itself, should what follows fail.
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stderr is not None
            found = re.fullmatch(rb"127\.0\.0\.1:(\d+) -> \d+\n", process.stdout.readline())
            assert found
            local = int(found[1])
            until(lambda: asked(remote), "it listens")
            answers = list[bytes]()
            threads = [
                threading.Thread(target=lambda: answers.append(asked(local))) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [answer[:15] for answer in answers] == [b"HTTP/1.0 200 OK"] * 8
            assert all(answer.endswith(b"</html>\n") for answer in answers)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
            assert process.stderr.read() == b""

    def test_a_port_that_is_taken_is_told_with_what_to_do(self, sandbox: Sandbox) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = cli("port", sandbox.id, str(taken.getsockname()[1]))
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
        assert b"Address already in use; name another with LOCAL:REMOTE" in done.stderr
        assert cli("port", sandbox.id, "x:80").returncode == 2


def asked(port: int) -> bytes:
    """What HTTP answers there; the request's end is the end of what is sent."""
    answer = b""
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        while piece := client.recv(65536):
            answer += piece
    return answer


class TestSurroundings:
    def test_a_running_system_is_found_from_within_its_directory(
        self, whole: System, tmp_path: Path
    ) -> None:
        place = tmp_path / ".longshore"
        place.mkdir()
        server = {"listen_addr": f"127.0.0.1:{whole.http_port}"}
        (place / "server.yaml").write_text(json.dumps(server))
        below = tmp_path / "a/b"
        below.mkdir(parents=True)
        env = {name: value for name, value in os.environ.items() if name != "LONGSHORE_API_URL"}
        with (place / "up.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert cli("ls", cwd=below, env=env).returncode == 0
        # Nobody holds it any more: that system has ended.
        stopped = cli("ls", "--limit", "1", cwd=below, env=env)
        assert b"127.0.0.1:8900" in stopped.stderr or stopped.returncode == 0

    def test_shells_complete_commands_and_sandboxes(self, sandbox: Sandbox) -> None:
        def completed(words: str) -> str:
            count = len(words.split()) - (not words.endswith(" "))
            env = {**os.environ, "_LONGSHORE_COMPLETE": "bash_complete"}
            env |= {"COMP_WORDS": words, "COMP_CWORD": str(count)}
            return subprocess.run(
                [Path(sys.executable).with_name("longshore")],
                env=env,
                capture_output=True,
                text=True,
                check=True,
            ).stdout

        assert completed("longshore sand") == "plain,sandbox\n"
        assert completed("longshore sandbox ex") == "plain,exec\n"
        assert f"plain,{sandbox.id}\n" in completed(f"longshore sandbox rm {sandbox.id[:4]}")
        assert f"plain,{sandbox.id}:\n" in completed(f"longshore sandbox cp {sandbox.id[:4]}")
