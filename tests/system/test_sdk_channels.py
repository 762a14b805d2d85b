"""Terminals, tunnels, trees and watches of the SDK, against a whole system."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import longshore
import pytest
from longshore import AsyncSandbox, Sandbox, deadline

from tests.system.harness import System, system
from tests.system.test_sdk import descriptors

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]
ECHO = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    client, _ = server.accept()
    with client:
        while data := client.recv(65536):
            client.sendall(data)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with (
        system(tmp_path_factory.mktemp("channels")) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("LONGSHORE_API_URL", f"http://127.0.0.1:{started.http_port}")
        started.start_all()
        yield started


@pytest.fixture(scope="module")
def sandbox(whole: System) -> Iterator[Sandbox]:
    with Sandbox.create() as created:
        yield created


@pytest.fixture(scope="module")
def echo_port(sandbox: Sandbox) -> Iterator[int]:
    with sandbox.start([sys.executable, "-c", ECHO]) as process:
        yield int(next(iter(process)).text)


def read_until(terminal: longshore.Terminal, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        piece = terminal.read(timeout=60)
        assert piece, seen
        seen += piece
    return seen


class TestTerminals:
    def test_a_program_has_a_terminal_of_the_size_that_was_asked_for(
        self, sandbox: Sandbox
    ) -> None:
        with sandbox.terminal("tty; stty size; exit 7", columns=100, rows=30) as terminal:
            shown = b"".join(terminal)
        assert shown.startswith(b"/dev/pts/")
        assert shown.endswith(b"30 100\r\n")
        assert terminal.exit_code == 7

    def test_it_is_told_when_its_terminal_has_another_size(self, sandbox: Sandbox) -> None:
        script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
        with sandbox.terminal(script) as terminal:
            read_until(terminal, b"ready")
            terminal.resize(columns=120, rows=40)
            assert b"40 120" in read_until(terminal, b"120")

    def test_ctrl_c_reaches_the_program(self, sandbox: Sandbox) -> None:
        with sandbox.terminal("trap 'exit 9' INT; echo ready; while :; do sleep 1; done") as one:
            read_until(one, b"ready")
            one.write("\x03")
            assert one.wait() == 9

    def test_a_signal_that_ends_it_is_known(self, sandbox: Sandbox) -> None:
        with sandbox.terminal(["sh", "-c", "kill -KILL $$"]) as terminal:
            assert terminal.wait() == -signal.SIGKILL

    def test_without_a_command_it_is_a_shell(self, sandbox: Sandbox) -> None:
        with sandbox.terminal(env={"PS1": "> "}, cwd="/usr") as terminal:
            terminal.write("echo $((6 * 7)); pwd; exit 3\n")
            shown = b"".join(terminal)
        assert b"42\r\n/usr\r\n" in shown
        assert terminal.exit_code == 3

    def test_what_it_shows_comes_byte_for_byte(self, sandbox: Sandbox) -> None:
        with sandbox.terminal("stty raw; head -c 3000000 /dev/urandom | tee copy") as terminal:
            shown = b"".join(terminal)
        copy = sandbox.files.read("copy")
        assert hashlib.sha256(shown).digest() == hashlib.sha256(copy).digest()

    def test_a_paste_of_any_size_arrives(self, sandbox: Sandbox) -> None:
        with sandbox.terminal("stty raw -echo; echo ready; head -c 1500000 | sha256sum") as one:
            read_until(one, b"ready")
            data = os.urandom(1_500_000)
            one.write(data)
            assert hashlib.sha256(data).hexdigest().encode() in b"".join(one)

    def test_it_is_hung_up_on_at_the_end_of_its_with(self, sandbox: Sandbox) -> None:
        with sandbox.terminal("trap 'echo hung up > mark; exit' HUP; echo ready; sleep 60") as one:
            read_until(one, b"ready")
        with sandbox.files.watch(".") as changes:
            while not sandbox.files.exists("mark"):
                changes.next(timeout=60)
        with pytest.raises(longshore.ProcessNotFoundError):
            one.write("x")

    def test_a_deadline_ends_the_wait_and_the_terminal_can_be_read_on(
        self, sandbox: Sandbox
    ) -> None:
        with sandbox.terminal("read line; echo got $line") as terminal:
            with pytest.raises(TimeoutError):
                terminal.read(timeout=0.2)
            with pytest.raises(longshore.SandboxTimeoutError), deadline(0.2):
                terminal.wait()
            terminal.write("me\n")
            assert b"got me" in b"".join(terminal)

    def test_what_cannot_be_started_is_an_error_and_leaves_nothing(self, sandbox: Sandbox) -> None:
        before = descriptors()
        with pytest.raises(longshore.SandboxError, match="cannot start 'nonesuch'") as caught:
            sandbox.terminal(["nonesuch"])
        assert caught.value.code == "SPAWN_FAILED"
        with pytest.raises(ValueError, match="a terminal of 0 columns and 24 rows shows nothing"):
            sandbox.terminal(columns=0)
        assert descriptors() <= before


class TestTunnels:
    def test_bytes_pass_both_ways(self, sandbox: Sandbox, echo_port: int) -> None:
        data = os.urandom(24 << 20)
        with sandbox.tunnel(echo_port) as tunnel:
            writer = threading.Thread(target=tunnel.write, args=(data,))
            writer.start()
            got = bytearray()
            while len(got) < len(data):
                got += tunnel.read()
            writer.join()
        assert bytes(got) == data

    def test_the_end_of_the_other_side_is_the_end(self, sandbox: Sandbox) -> None:
        program = (
            "import socket; s = socket.create_server(('127.0.0.1', 0)); "
            "print(s.getsockname()[1], flush=True); c, _ = s.accept(); c.sendall(b'bye')"
        )
        with sandbox.start([sys.executable, "-c", program]) as process:
            port = int(next(iter(process)).text)
            with sandbox.tunnel(port) as tunnel:
                assert b"".join(tunnel) == b"bye"
                assert tunnel.read() == b""

    def test_a_port_where_nobody_listens_is_refused(self, sandbox: Sandbox) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(longshore.SandboxConnectionError) as caught:
            sandbox.tunnel(port)
        assert (caught.value.code, caught.value.retryable) == ("CONNECTION_REFUSED", True)

    def test_no_descriptor_is_left_of_any(self, sandbox: Sandbox, echo_port: int) -> None:
        before = descriptors()
        for _ in range(20):
            with sandbox.tunnel(echo_port) as tunnel, sandbox.terminal(["true"]) as terminal:
                tunnel.write(b"x")
                terminal.wait()
            with sandbox.files.watch("."):
                pass
        assert descriptors() <= before


class TestFiles:
    def test_directories_are_made_renamed_and_removed_with_all_in_them(
        self, sandbox: Sandbox
    ) -> None:
        files = sandbox.files
        files.mkdir("m/a/b")
        files.mkdir("m/a/b")
        files.write("m/a/b/c", b"1")
        files.rename("m/a", "m/z")
        assert files.read("m/z/b/c") == b"1"
        files.mkdir("m/full/x")
        with pytest.raises(FileExistsError):
            files.rename("m/z", "m/full")
        with pytest.raises(IsADirectoryError):
            files.remove("m")
        files.remove("m", recursive=True)
        assert not files.exists("m")

    def test_what_stands_at_a_path_is_told(self, sandbox: Sandbox) -> None:
        files = sandbox.files
        files.write("s/file", b"12345")
        files.chmod("s/file", 0o640)
        sandbox.run("ln -s file s/link; mkfifo s/fifo", check=True)
        stat = files.stat("s/file")
        assert (stat.kind, stat.size, stat.mode, stat.is_dir) == ("file", 5, 0o640, False)
        assert (files.stat("s/link").kind, files.stat("s/link").size) == ("file", 5)
        link = files.stat("s/link", follow=False)
        assert (link.kind, link.target) == ("symlink", "file")
        assert files.stat("s/fifo").kind == "fifo"
        with pytest.raises(FileNotFoundError):
            files.stat("s/none")
        with pytest.raises(ValueError, match="a mode is a number such as 0o755"):
            files.chmod("s/file", 0o10000)

    def test_a_tree_comes_back_as_it_was(self, sandbox: Sandbox, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        (tree / "deep/er").mkdir(parents=True)
        (tree / "deep/run").write_text("#!/bin/sh\n")
        (tree / "deep/run").chmod(0o755)
        (tree / "deep/er").chmod(0o750)
        (tree / "deep").chmod(0o500)
        (tree / "empty").touch()
        (tree / os.fsdecode(b"odd \xff\n")).write_bytes(b"\0")
        (tree / "link").symlink_to("deep/run")
        passed = list[int]()
        sandbox.files.upload(tree, "copied/tree", progress=passed.append)
        sandbox.files.download("copied/tree", tmp_path / "back", progress=passed.append)
        assert sum(passed) == 2 * (10 + 1)
        there, back = (
            {
                path.relative_to(top): (path.lstat().st_mode, path.is_file() and path.read_bytes())
                for path in top.rglob("*")
            }
            for top in (tree, tmp_path / "back")
        )
        assert back == there
        assert len(there) == 6
        told = sandbox.run(["stat", "-c%a", "deep", "deep/er", "empty"], cwd="copied/tree")
        assert told.stdout == b"500\n750\n644\n"
        assert os.readlink(tmp_path / "back/link") == "deep/run"
        assert (tmp_path / "back/deep/run").stat().st_mode & 0o777 == 0o755

    def test_what_happens_in_a_tree_is_told(self, sandbox: Sandbox) -> None:
        sandbox.files.mkdir("w/below")
        with sandbox.files.watch("w", recursive=True) as changes:
            with pytest.raises(TimeoutError):
                changes.next(timeout=0.1)
            sandbox.run("echo x > w/below/new; mv w/below/new w/moved; rm w/moved", check=True)
            told = dict[str, longshore.Change]()
            for change in changes:
                told.setdefault(change.kind, change)
                if change.kind == "deleted":
                    break
        assert told["created"].path == "w/below/new"
        assert (told["moved_from"].path, told["moved_to"].path) == ("w/below/new", "w/moved")
        assert told["moved_from"].cookie == told["moved_to"].cookie
        assert told["deleted"].is_dir is False

    def test_the_end_of_what_is_watched_is_the_end(self, sandbox: Sandbox) -> None:
        sandbox.files.mkdir("gone")
        with sandbox.files.watch("gone") as changes:
            sandbox.files.remove("gone", recursive=True)
            for change in changes:
                assert change.path.startswith("gone")
            assert changes.next() is None


class TestProcesses:
    def test_a_name_is_one_process_at_a_time(self, sandbox: Sandbox) -> None:
        with sandbox.start("sleep 60", name="sleeper") as process:
            assert process.info().name == "sleeper"
            with pytest.raises(longshore.SandboxError) as caught:
                sandbox.start("sleep 60", name="sleeper")
            assert caught.value.code == "NAME_TAKEN"

    def test_a_restart_is_another_process_of_the_same_command(self, sandbox: Sandbox) -> None:
        process = sandbox.start("echo $$; sleep 60", name="again")
        with process.restart() as second:
            assert process.wait(timeout=60) == -signal.SIGTERM
            assert second.pid != process.pid
            assert next(iter(second)).text == f"{second.pid}\n"
            assert (second.info().name, second.info().running) == ("again", True)

    def test_what_has_been_written_so_far_can_be_had_without_waiting(
        self, sandbox: Sandbox
    ) -> None:
        with sandbox.start("echo so far; sleep 60") as process:
            assert next(iter(process)).text == "so far\n"
            output = process.connect(follow=False)
            assert [chunk.text for chunk in output] == ["so far\n"]
            assert output.exit_code is None


class TestAwaiting:
    async def test_terminals_tunnels_and_watches_are_there_for_code_that_awaits(
        self, sandbox: Sandbox, echo_port: int
    ) -> None:
        async with AsyncSandbox.attach(sandbox.id) as attached:
            async with attached.terminal("read x; echo got $x; exit 3") as terminal:
                await terminal.write("me\n")
                assert b"got me" in b"".join([piece async for piece in terminal])
                assert terminal.exit_code == 3
            async with attached.tunnel(echo_port) as tunnel:
                await tunnel.write(b"hello")
                assert await tunnel.read() == b"hello"
            async with attached.files.watch(".") as changes:
                await attached.files.write("seen", b"")
                assert (await changes.next(timeout=60)) is not None

    async def test_no_descriptor_is_left_of_what_was_cut_short(self, sandbox: Sandbox) -> None:
        before = descriptors()
        for _ in range(10):
            with pytest.raises(TimeoutError), deadline(0.3):
                async with (
                    AsyncSandbox.attach(sandbox.id) as attached,
                    attached.terminal(["sleep", "60"]) as terminal,
                ):
                    await terminal.wait()
        assert descriptors() <= before
