"""The SDK against a whole system: what a user of it does, and what may happen meanwhile."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
import httpx
import longshore
import pytest
from longshore import AsyncSandbox, Sandbox, SandboxError, deadline

from tests.machine import fair_time
from tests.system.harness import System, system, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]
ROOT = Path(__file__).resolve().parents[2]
SOON = 2.0
"""Seconds within which whoever waits must learn that there is nothing to wait for."""
CYCLES = int(
    os.environ.get("LONGSHORE_SDK_CYCLES") or (300 if os.environ.get("LONGSHORE_CI") else 30)
)
"""So many sandboxes are created, used and destroyed, one after the other."""
SERVE = """
import http.server, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(418)
        self.end_headers()
        self.wfile.write(self.headers["x-mine"].encode() + b" " + self.path.encode() + b" " + body)
server = http.server.HTTPServer(("127.0.0.1", 0), Echo)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("sdk")) as started:
        started.start_all()
        yield started


@pytest.fixture(scope="module", autouse=True)
def _environment(whole: System) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGSHORE_API_URL", f"http://127.0.0.1:{whole.http_port}")
        yield


@pytest.fixture(scope="module")
def sandbox(whole: System) -> Iterator[Sandbox]:
    with Sandbox.create() as created:
        yield created


@pytest.fixture
def doomed(whole: System) -> Iterator[Sandbox]:
    """One that a test may kill."""
    with Sandbox.create() as created:
        yield created


def first_process(whole: System, sandbox: Sandbox) -> int:
    (file,) = whole.state_dir.glob(f"*/fork_exec/{sandbox.id}/life.json")
    return int(json.loads(file.read_text(encoding="utf-8"))["main"]["pid"])


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """`act` in a thread, while the block runs."""
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_page_in_a_browser_runs_nothing(whole: System, sandbox: Sandbox) -> None:
    """Not even one that another port of a sandbox serves, and that says which sandbox it means."""
    port = whole.proxy.base_url.port
    headers = {"Tensorlake-Sandbox-Port": "9501"}
    for host in ("evil.example", f"8080-other.localhost:{port}", f"8080-{sandbox.id}.localhost"):
        pages = {**headers, "Host": host, "Origin": f"http://{host}"}
        asked = partial(whole.daemon, sandbox.id, "POST", "/api/v1/processes", headers=pages)
        answer = asked(json={"command": "true"})
        assert (answer.status_code, answer.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")
    assert whole.spawn(sandbox.id, "true")


class TestLife:
    def test_a_created_sandbox_is_destroyed_at_the_end(self) -> None:
        with Sandbox.create() as sandbox:
            assert sandbox.info().status == "running"
        assert Sandbox.get(sandbox.id).status == "terminated"

    def test_it_is_destroyed_also_when_the_block_fails_or_a_deadline_has_passed(self) -> None:
        sandbox = Sandbox.create()
        with pytest.raises(TimeoutError), deadline(0.3), sandbox:
            sandbox.run("sleep 60")
        assert Sandbox.get(sandbox.id).status == "terminated"

    def test_an_attached_sandbox_is_left_running(self, doomed: Sandbox) -> None:
        with Sandbox.attach(doomed.id) as attached:
            assert attached.run("echo $((6 * 7))").text == "42\n"
        assert doomed.info().status == "running"
        with Sandbox.attach(doomed.id) as attached:
            attached.destroy()
        assert doomed.info().status == "terminated"

    def test_a_detached_sandbox_goes_on(self) -> None:
        with Sandbox.create() as sandbox:
            sandbox.detach()
        assert Sandbox.get(sandbox.id).status == "running"
        Sandbox.delete(sandbox.id)
        Sandbox.delete(sandbox.id)
        assert Sandbox.get(sandbox.id).status == "terminated"

    def test_what_was_asked_for_is_what_it_has(self) -> None:
        with Sandbox.create("some:image", cpus=0.5, lifetime_seconds=60) as sandbox:
            info = sandbox.info()
        assert (info.image, info.cpus, info.memory_mb) == ("some:image", 0.5, 1024)
        assert info.lifetime_seconds == 60

    def test_one_that_is_not_there_cannot_be_attached_to(self) -> None:
        with pytest.raises(longshore.SandboxNotFoundError, match="no sandbox 'nobody'") as caught:
            Sandbox.attach("nobody")
        assert caught.value.code == "SANDBOX_NOT_FOUND"
        assert caught.value.request_id

    def test_one_that_has_ended_cannot_be_attached_to(self) -> None:
        with Sandbox.create() as sandbox:
            pass
        with pytest.raises(longshore.SandboxTerminatedError, match="UserTerminated") as caught:
            Sandbox.attach(sandbox.id)
        assert caught.value.sandbox_id == sandbox.id

    def test_sandboxes_are_listed_by_namespace_and_status(self) -> None:
        namespace = f"n-{uuid4().hex[:8]}"
        made = [Sandbox.create(namespace=namespace) for _ in range(3)]
        made[0].close()
        listed = [info.id for info in Sandbox.list(namespace=namespace)]
        running = [info.id for info in Sandbox.list(namespace=namespace, status="running")]
        assert listed == [one.id for one in reversed(made)]
        assert running == listed[:2]
        for one in made:
            one.close()

    def test_one_key_is_one_sandbox(self) -> None:
        key = uuid4().hex
        with Sandbox.create(idempotency_key=key) as one, Sandbox.create(idempotency_key=key) as two:
            assert one.id == two.id
            with pytest.raises(SandboxError) as caught:
                Sandbox.create(idempotency_key=key, cpus=2)
            assert caught.value.code == "IDEMPOTENCY_MISMATCH"

    def test_the_daemon_inside_is_asked_for_its_health(self, sandbox: Sandbox) -> None:
        assert sandbox.health() is True
        assert sandbox.guest().uptime_seconds >= 0

    def test_a_sandbox_that_has_ended_is_not_healthy(self, doomed: Sandbox) -> None:
        Sandbox.delete(doomed.id)
        # Its end is ordered, and comes soon.
        until(lambda: not doomed.health(), "nobody answers inside")


class TestRun:
    @pytest.mark.parametrize(
        "data",
        [b"", b"\0", b"\xff\xfe\x80", b"a\r\nb\r", b"no end", b"x" * (1 << 20), b"\n\n"],
        ids=["nothing", "NUL", "no UTF-8", "CR LF", "no end", "a line of 1 MiB", "empty lines"],
    )
    def test_bytes_come_back_as_they_were(self, sandbox: Sandbox, data: bytes) -> None:
        result = sandbox.run("tee /dev/stderr", input=data, check=True)
        assert (result.stdout, result.stderr) == (data, data)

    def test_32_mib_of_anything_come_back_as_they_were(self, sandbox: Sandbox) -> None:
        data = os.urandom(32 << 20)
        result = sandbox.run(["cat"], input=data)
        assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
        assert not result.truncated

    def test_input_waits_for_a_command_that_does_not_read_for_long(self, sandbox: Sandbox) -> None:
        # Longer than the sandbox waits for the pipe: it says how much that has taken.
        result = sandbox.run("sleep 22; wc -c", input=b"x" * 1_000_000)
        assert (result.text, result.ok) == ("1000000\n", True)

    def test_more_than_is_wanted_is_cut_and_said_to_be(self, sandbox: Sandbox) -> None:
        result = sandbox.run("seq 100000; echo error >&2", max_output=10)
        assert (result.stdout, result.stderr) == (b"1\n2\n3\n4\n5\n", b"error\n")
        assert (result.truncated, result.exit_code) == (True, 0)

    def test_a_list_is_seen_by_no_shell(self, sandbox: Sandbox) -> None:
        assert sandbox.run(["printf", "%s", "$HOME; *"]).stdout == b"$HOME; *"

    def test_environment_and_directory_are_as_asked_for(self, sandbox: Sandbox) -> None:
        result = sandbox.run("echo $WHO; pwd", env={"WHO": "żółw"}, cwd="/usr")
        assert result.text == "żółw\n/usr\n"

    def test_an_exit_code_is_an_answer(self, sandbox: Sandbox) -> None:
        result = sandbox.run("echo why >&2; exit 3")
        assert (result.exit_code, result.ok, result.stderr) == (3, False, b"why\n")
        assert sandbox.run("kill -SEGV $$").exit_code == -signal.SIGSEGV

    def test_with_check_it_is_an_error_that_has_the_result(self, sandbox: Sandbox) -> None:
        with pytest.raises(longshore.CommandError, match="ended with 3: why") as caught:
            sandbox.run("echo why >&2; exit 3", check=True)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.result.exit_code, again.sandbox_id) == (3, sandbox.id)

    def test_a_timeout_kills_all_that_was_started_and_keeps_the_output(
        self, sandbox: Sandbox
    ) -> None:
        began = fair_time()
        result = sandbox.run("sleep 60 & echo $!; sleep 60", timeout=0.5)
        assert fair_time() - began < 0.5 + SOON
        assert (result.timed_out, result.exit_code, result.ok) == (True, -9, False)
        until(lambda: not is_alive(int(result.stdout)), "the child is gone", SOON)
        with pytest.raises(longshore.CommandTimeoutError):
            result.check()

    def test_a_timeout_is_kept_when_the_caller_has_gone(self, sandbox: Sandbox) -> None:
        # As with every process: the sandbox itself keeps the time.
        process = sandbox.start("sleep 60", timeout=0.3)
        assert process.wait(timeout=60) == -9
        assert process.info().timed_out

    def test_a_deadline_ends_a_command_inside_too(self, sandbox: Sandbox) -> None:
        mark = f"mark-{uuid4().hex}"
        passed = "the deadline has passed during run"
        with pytest.raises(TimeoutError, match=passed) as caught, deadline(0.4):
            sandbox.run(["sh", "-c", "sleep 60", mark])
        assert isinstance(caught.value, SandboxError)
        assert caught.value.code == "DEADLINE_EXCEEDED"

        def running() -> list[int]:
            return [one.pid for one in sandbox.processes() if mark in one.command and one.running]

        until(lambda: not running(), "it is gone", SOON)

    def test_what_is_no_command_says_why(self, sandbox: Sandbox) -> None:
        with pytest.raises(SandboxError, match="cannot start 'nonesuch': not found") as caught:
            sandbox.run(["nonesuch"])
        assert (caught.value.code, caught.value.phase) == ("SPAWN_FAILED", "run")
        assert caught.value.sandbox_id == sandbox.id
        assert caught.value.retryable is False
        with pytest.raises(ValueError, match="the command is empty"):
            sandbox.run([])
        with pytest.raises(ValueError, match="timeout: seconds above 0 are wanted"):
            sandbox.run("true", timeout=0)

    def test_input_that_nobody_reads_is_no_error(self, sandbox: Sandbox) -> None:
        assert sandbox.run("head -c 3", input=b"abcdef" * 200_000).stdout == b"abc"

    def test_a_child_in_the_background_holds_up_nobody(self, sandbox: Sandbox) -> None:
        began = fair_time()
        assert sandbox.run("sleep 30 & echo done").text == "done\n"
        assert fair_time() - began < 5

    def test_threads_may_share_a_sandbox(self, sandbox: Sandbox) -> None:
        seen = dict[int, str]()

        def work(number: int) -> None:
            seen[number] = sandbox.run(f"sleep 0.05; echo {number}").text

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {number: f"{number}\n" for number in range(16)}


class TestProcesses:
    def test_chunks_come_live_in_the_order_of_writing(self, sandbox: Sandbox) -> None:
        with sandbox.start("printf 'name? '; read name; printf hi >&2", stdin=True) as process:
            chunks = iter(process)
            assert next(chunks).data == b"name? "
            process.write("me\n")
            last = next(chunks)
            assert (last.stream, last.data, last.offset, last.end) == ("stderr", b"hi", 6, 8)
            assert list(chunks) == []
            assert chunks.exit_code == 0

    def test_another_reader_begins_at_any_byte(self, sandbox: Sandbox) -> None:
        process = sandbox.start("printf abc; sleep 0.05; printf def >&2; sleep 0.05; printf ghi")
        assert process.wait(timeout=60) == 0
        with Sandbox.attach(sandbox.id) as elsewhere:
            again = elsewhere.process(process.pid)
            for offset in range(11):
                data = b"".join(chunk.data for chunk in again.connect(offset=offset))
                assert data == b"abcdefghi"[offset:]
            assert [chunk.stream for chunk in again] == ["stdout", "stderr", "stdout"]

    def test_a_reader_that_left_goes_on_where_it_was(self, sandbox: Sandbox) -> None:
        with sandbox.start("for i in 1 2 3 4 5 6; do printf $i; sleep 0.05; done") as process:
            for chunk in process:
                if chunk.end >= 3:
                    break
            rest = b"".join(later.data for later in process.connect(offset=chunk.end))
            assert b"123456"[chunk.end :] == rest

    def test_a_late_reader_gets_all_of_it(self, sandbox: Sandbox) -> None:
        process = sandbox.start("seq 20000")
        process.wait()
        wanted = "".join(f"{number}\n" for number in range(1, 20001))
        assert process.result().text == wanted

    def test_waiting_has_an_end_of_its_own(self, sandbox: Sandbox) -> None:
        with sandbox.start("sleep 60") as process:
            began, fair = time.monotonic(), fair_time()
            with pytest.raises(longshore.SandboxTimeoutError, match=f"{process.pid} still runs"):
                process.wait(timeout=0.3)
            assert time.monotonic() - began > 0.2
            assert fair_time() - fair < SOON
            assert process.info().running
        assert process.wait(timeout=60) == -9

    def test_signals_go_to_the_group(self, sandbox: Sandbox) -> None:
        process = sandbox.start("trap 'echo caught; exit 7' TERM; echo ready; sleep 60 & wait")
        chunks = iter(process)
        assert next(chunks).text == "ready\n"
        process.signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 7
        with pytest.raises(longshore.ProcessNotFoundError):
            process.signal()
        chunks.close()

    def test_there_is_no_process_of_an_unknown_number(self, sandbox: Sandbox) -> None:
        with pytest.raises(ProcessLookupError):
            sandbox.process(4_000_000).wait()
        with pytest.raises(ProcessLookupError):
            list(sandbox.process(4_000_000))

    def test_input_streams_and_ends(self, sandbox: Sandbox) -> None:
        with sandbox.start("sha256sum", stdin=True) as process:
            process.write(bytes(range(256)) * 4096 for _ in range(10))
            process.close_stdin()
            process.close_stdin()
            wanted = hashlib.sha256(bytes(range(256)) * 40960).hexdigest()
            assert process.result().text.split()[0] == wanted
            with pytest.raises(BrokenPipeError):
                process.write(b"more")

    def test_processes_are_listed(self, sandbox: Sandbox) -> None:
        with sandbox.start(["sleep", "60"]) as process:
            (found,) = [one for one in sandbox.processes() if one.pid == process.pid]
        assert (found.command, found.running, found.exit_code) == (("sleep", "60"), True, None)


class TestFiles:
    def test_files_are_written_read_listed_and_removed(self, sandbox: Sandbox) -> None:
        files = sandbox.files
        files.write("t/a.txt", "żółw")
        files.write("t/d/b", b"\0\xff")
        assert files.read("t/a.txt").decode() == "żółw"
        assert [(one.name, one.is_dir, one.size) for one in files.list("t")] == [
            ("d", True, None),
            ("a.txt", False, 7),
        ]
        files.remove("t/a.txt")
        with pytest.raises(FileNotFoundError, match=r"t/a\.txt") as caught:
            files.read("t/a.txt")
        assert isinstance(caught.value, longshore.SandboxFileNotFoundError)
        assert caught.value.phase == "files.read"

    def test_errors_are_the_builtin_ones(self, sandbox: Sandbox) -> None:
        with pytest.raises(IsADirectoryError):
            sandbox.files.read("/usr")
        with pytest.raises(NotADirectoryError):
            sandbox.files.list("/etc/passwd")
        with pytest.raises(PermissionError):
            sandbox.files.read("../secret")

    def test_a_part_of_a_file_is_read(self, sandbox: Sandbox) -> None:
        sandbox.files.write("part", b"0123456789")
        read = sandbox.files.read
        assert read("part", offset=3, length=4) == b"3456"
        assert read("part", offset=8) == b"89"
        assert read("part", offset=10) == read("part", length=0) == b""
        assert b"".join(sandbox.files.stream("part", offset=7)) == b"789"
        # Such files are read by nobody in parts.
        whole = read("/proc/version")
        assert read("/proc/version", offset=3, length=2) == whole[3:5]
        assert b"".join(sandbox.files.stream("/proc/version", offset=3)) == whole[3:]

    @pytest.mark.parametrize("name", ["a b+c&d=%25", "new\nline", "żółw", b"no \xff UTF-8", "?#"])
    def test_odd_names_are_names(self, sandbox: Sandbox, name: str | bytes) -> None:
        path = b"odd/" + os.fsencode(name)
        sandbox.files.write(path, b"here")
        assert sandbox.files.read(path) == b"here"
        sandbox.files.remove(path)

    def test_files_of_any_size_pass_in_little_memory(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        local, copy = tmp_path / "local", tmp_path / "copy"
        with local.open("wb") as file:
            file.truncate(512 << 20)
            file.write(os.urandom(1000))
        program = (
            "import resource, sys\nfrom longshore import Sandbox\n"
            "sandbox = Sandbox.attach(sys.argv[1])\n"
            "sandbox.run('true')\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "before = peak()\n"
            "sandbox.files.upload(sys.argv[2], 'big')\n"
            "sandbox.files.download('big', sys.argv[3])\n"
            "print(peak() - before)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, sandbox.id, local, copy],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) < 64 << 10
        sandbox.files.remove("big")
        assert subprocess.run(["cmp", local, copy], check=False).returncode == 0
        assert sorted(tmp_path.iterdir()) == [copy, local]

    def test_a_download_that_fails_leaves_what_was_there(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        local = tmp_path / "local"
        local.write_text("before")
        with pytest.raises(FileNotFoundError):
            sandbox.files.download("nonesuch", local)
        assert (local.read_text(), list(tmp_path.iterdir())) == ("before", [local])

    def test_a_source_that_breaks_leaves_what_was_there(self, sandbox: Sandbox) -> None:
        sandbox.files.write("kept", b"before")

        def breaking() -> Iterator[bytes]:
            yield b"half"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            sandbox.files.write("kept", breaking())
        assert sandbox.files.read("kept") == b"before"


class TestPorts:
    def test_a_program_is_asked_and_may_answer_anything(self, sandbox: Sandbox) -> None:
        with sandbox.start([sys.executable, "-c", SERVE]) as process:
            port = int(next(iter(process)).text)
            reply = sandbox.request("POST", port, "p?q=1", headers={"X-Mine": "me"}, body="hello")
            assert (reply.status, reply.text) == (418, "me /p?q=1 hello")
            assert "python" in reply.headers["server"].lower()

    def test_its_url_leads_there_by_the_name_of_the_host(self, sandbox: Sandbox) -> None:
        with sandbox.start([sys.executable, "-c", SERVE]) as process:
            port = int(next(iter(process)).text)
            url = httpx.URL(sandbox.url(port))
            assert url.host == f"{port}-{sandbox.id}.localhost"
            # As a browser would, whatever this machine's resolver knows of such names.
            reply = httpx.post(
                url.copy_with(host="127.0.0.1"),
                headers={"Host": url.netloc.decode(), "X-Mine": "me"},
                content=b"hello",
            )
            assert reply.text == "me / hello"

    def test_a_port_where_nobody_listens_may_be_asked_again(self, sandbox: Sandbox) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(ConnectionError) as caught:
            sandbox.request("GET", port)
        assert isinstance(caught.value, longshore.SandboxConnectionError)
        assert (caught.value.code, caught.value.retryable) == ("CONNECTION_REFUSED", True)
        with pytest.raises(ValueError, match="a port is a number from 1 to 65535, not 0"):
            sandbox.url(0)


class TestTrouble:
    def test_a_sandbox_that_is_killed_is_told_of_to_who_waits(
        self, whole: System, doomed: Sandbox
    ) -> None:
        process = doomed.start("echo ready; sleep 60")
        chunks = iter(process)
        next(chunks)
        killed = list[float]()

        def kill() -> None:
            time.sleep(0.2)
            killed.append(fair_time())
            os.kill(first_process(whole, doomed), signal.SIGKILL)

        with meanwhile(kill), pytest.raises(longshore.SandboxTerminatedError) as caught:
            doomed.run("sleep 60")
        assert fair_time() - killed[0] < SOON
        assert "PID 1 was killed by signal 9" in caught.value.message
        assert (caught.value.phase, caught.value.sandbox_id) == ("run", doomed.id)
        assert caught.value.__cause__ is not None
        for attempt in (lambda: next(chunks), process.wait, process.kill, doomed.guest):
            began = fair_time()
            with pytest.raises(longshore.SandboxTerminatedError):
                attempt()
            assert fair_time() - began < SOON
        with pytest.raises(longshore.SandboxTerminatedError):
            doomed.files.write("x", b"y")

    def test_a_sandbox_that_is_deleted_is_told_of_to_who_waits(self, doomed: Sandbox) -> None:
        def delete() -> None:
            time.sleep(0.2)
            Sandbox.delete(doomed.id)

        began = fair_time()
        with meanwhile(delete), suppress(longshore.SandboxTerminatedError):
            # Its processes are ended before it is, and mostly there is time to tell.
            assert doomed.run("sleep 60").exit_code == -signal.SIGTERM
        assert fair_time() - began < 0.2 + SOON
        with pytest.raises(longshore.SandboxTerminatedError, match="UserTerminated"):
            doomed.run("true")

    def test_a_process_ends_in_its_with_although_its_sandbox_has(
        self, whole: System, doomed: Sandbox
    ) -> None:
        with doomed.start("sleep 60"):
            os.kill(first_process(whole, doomed), signal.SIGKILL)
            until(lambda: doomed.info().status == "terminated", "it has ended")

    def test_a_stalled_reader_holds_up_nobody_and_loses_nothing(self, sandbox: Sandbox) -> None:
        with sandbox.start("head -c 50000000 /dev/zero; echo end >&2") as process:
            stalled = iter(process)
            next(stalled)
            assert process.wait(timeout=120) == 0
            assert process.result().stderr == b"end\n"
            assert sum(len(chunk.data) for chunk in stalled) > 49_000_000

    def test_nobody_there_is_an_error_not_a_hang(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        began = fair_time()
        with pytest.raises(longshore.SandboxConnectionError) as caught:
            Sandbox.create(api_url=f"http://127.0.0.1:{port}")
        assert fair_time() - began < SOON
        assert (caught.value.code, caught.value.phase) == ("CONNECTION_FAILED", "create")

    @pytest.mark.timeout(900)
    def test_no_descriptor_is_left_of_what_was_closed(self, sandbox: Sandbox) -> None:
        def cycle() -> None:
            with Sandbox.attach(sandbox.id) as attached:
                attached.run(["true"])

        cycle()
        before = descriptors()
        for _ in range(50):
            cycle()
        for _ in range(CYCLES):
            with Sandbox.create() as created:
                next(iter(created.start("yes")))
        for _ in range(20):
            assert next(Sandbox.list()).id
        assert descriptors() <= before

    async def test_no_descriptor_is_left_of_what_was_closed_by_awaiting(
        self, sandbox: Sandbox
    ) -> None:
        async def cycle() -> None:
            async with (
                AsyncSandbox.attach(sandbox.id) as attached,
                attached.start("yes") as process,
            ):
                async for _ in process:
                    break

        await cycle()
        before = descriptors()
        for _ in range(20):
            await cycle()
        assert descriptors() <= before


class TestOutages:
    """Parts of the system go, and come back: last, since others would notice."""

    def test_a_proxy_that_comes_back_costs_a_reader_nothing(
        self, whole: System, doomed: Sandbox
    ) -> None:
        def bounce() -> None:
            time.sleep(0.3)
            whole.stop("proxy", signal.SIGKILL)
            whole.start("proxy")

        script = "for i in $(seq 60); do echo $i; sleep 0.05; done"
        process = doomed.start(script)
        data, offset = b"", 0
        with meanwhile(bounce):
            while offset < 171:
                # On a slow machine it is away for longer than anybody should wait.
                with suppress(longshore.SandboxConnectionError):
                    for chunk in process.connect(offset=offset):
                        data, offset = data + chunk.data, chunk.end
        assert data.decode() == "".join(f"{number}\n" for number in range(1, 61))

    def test_a_proxy_that_comes_back_costs_a_download_nothing_but_a_changed_file(
        self, whole: System, doomed: Sandbox
    ) -> None:
        def bounce() -> None:
            whole.stop("proxy", signal.SIGKILL)
            whole.start("proxy")
            whole.wait_ready()

        data = os.urandom(64 << 20)
        doomed.files.write("data", data)
        with doomed.files.stream("data") as pieces:
            got = bytearray(next(pieces))
            bounce()
            for piece in pieces:
                got += piece
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
        with doomed.files.stream("data") as pieces:
            next(pieces)
            doomed.run("echo more >> data", check=True)
            bounce()
            with pytest.raises(SandboxError, match="FILE_CHANGED"):
                sum(map(len, pieces))

    def test_a_proxy_that_stays_away_is_told_of(self, whole: System, doomed: Sandbox) -> None:
        stopped = list[float]()

        def stop() -> None:
            time.sleep(0.2)
            stopped.append(fair_time())
            whole.stop("proxy", signal.SIGKILL)

        try:
            with meanwhile(stop), pytest.raises(longshore.SandboxConnectionError) as caught:
                doomed.run("sleep 60")
            assert fair_time() - stopped[0] < SOON
            assert (caught.value.code, caught.value.phase) == ("CONNECTION_LOST", "run")
        finally:
            whole.start("proxy")
            whole.wait_ready()

    def test_a_worker_that_is_killed_costs_a_command_nothing(
        self, whole: System, doomed: Sandbox
    ) -> None:
        def bounce() -> None:
            time.sleep(0.2)
            whole.stop("worker", signal.SIGKILL)

        with meanwhile(bounce):
            result = doomed.run("for i in 1 2 3 4 5; do echo $i; sleep 0.2; done")
        whole.start("worker")
        whole.wait_ready()
        assert result.text == "1\n2\n3\n4\n5\n"


class TestAwaiting:
    async def test_everything_is_there_for_code_that_awaits(self, tmp_path: Path) -> None:
        async with AsyncSandbox.create() as sandbox:
            assert (await sandbox.run("cat", input=b"\0\xff")).stdout == b"\0\xff"
            async with sandbox.start("read x; echo $x; exit 3", stdin=True) as process:
                await process.write("hello\n")
                assert [chunk.data async for chunk in process] == [b"hello\n"]
                assert await process.wait() == 3
                assert (await process.result()).text == "hello\n"
            (tmp_path / "a").write_bytes(os.urandom(1 << 20))
            await sandbox.files.upload(tmp_path / "a", "a")
            await sandbox.files.download("a", tmp_path / "b")
            assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
            async with sandbox.files.stream("a") as pieces:
                assert sum([len(piece) async for piece in pieces]) == pieces.size == 1 << 20
            assert sandbox.id in [info.id async for info in AsyncSandbox.list()]
        assert (await AsyncSandbox.get(sandbox.id)).status == "terminated"

    async def test_sources_may_be_async_or_plain(self) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"a"
            yield b""
            yield b"b"

        async with AsyncSandbox.create() as sandbox:
            await sandbox.files.write("async", pieces())
            await sandbox.files.write("plain", iter([b"c", b"", b"d"]))
            assert await sandbox.files.read("async") == b"ab"
            assert await sandbox.files.read("plain") == b"cd"

    async def test_a_sandbox_can_be_awaited_and_closed(self) -> None:
        sandbox = await AsyncSandbox.create()
        async with AsyncSandbox.attach(sandbox.id) as attached:
            assert (await attached.run("echo hi")).text == "hi\n"
        assert (await sandbox.info()).status == "running"
        await sandbox.close()
        assert (await AsyncSandbox.get(sandbox.id)).status == "terminated"

    async def test_tasks_share_a_sandbox(self) -> None:
        seen = dict[int, str]()
        async with AsyncSandbox.create() as sandbox:

            async def work(number: int) -> None:
                seen[number] = (await sandbox.run(f"sleep 0.2; echo {number}")).text

            async with anyio.create_task_group() as tasks:
                for number in range(16):
                    tasks.start_soon(work, number)
        assert seen == {number: f"{number}\n" for number in range(16)}

    async def test_a_cancelled_block_destroys_its_sandbox(self) -> None:
        with anyio.CancelScope() as scope:
            async with AsyncSandbox.create() as sandbox:
                scope.deadline = anyio.current_time() + 0.3
                await sandbox.run("sleep 60")
        assert scope.cancelled_caught
        assert (await AsyncSandbox.get(sandbox.id)).status == "terminated"

    async def test_a_cancelled_creation_leaves_no_sandbox(self) -> None:
        namespace = f"n-{uuid4().hex[:8]}"
        with anyio.move_on_after(0.02) as scope:
            await AsyncSandbox.create(namespace=namespace)
        assert scope.cancelled_caught
        left = [info async for info in AsyncSandbox.list(namespace=namespace)]
        assert [info.id for info in left if info.status != "terminated"] == []

    async def test_an_error_is_the_same_as_for_code_that_blocks(self) -> None:
        async with AsyncSandbox.create() as sandbox:
            with pytest.raises(FileNotFoundError):
                await sandbox.files.read("nonesuch")
            with pytest.raises(longshore.SandboxTimeoutError), deadline(0.3):
                await sandbox.run("sleep 60")


class TestDocumentation:
    PAGE = (ROOT / "docs/sdk.md").read_text(encoding="utf-8")

    def test_the_first_six_lines_work_when_pasted(self) -> None:
        (program,) = re.findall(r"```python\n(.*?)```", self.PAGE, re.DOTALL)[:1]
        assert len([line for line in program.splitlines() if line.strip()]) <= 6
        assert self.PAGE.index(program) < 60
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        assert re.fullmatch(r"Hello from \S*hello\.py\n 0\n", done.stdout)

    def test_every_other_piece_of_code_works_as_well(
        self, doomed: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pieces = re.findall(r"```python\n(.*?)```", self.PAGE, re.DOTALL)[1:]
        monkeypatch.chdir(tmp_path)
        (tmp_path / "model.bin").write_bytes(b"model")
        names = {"sandbox": doomed, "longshore": longshore}
        blocking = [
            piece.replace("/srv", str(tmp_path)).replace("sleep 1", "sleep 0.1")
            for piece in pieces
            if "async" not in piece and "request" not in piece and "make" not in piece
        ]
        assert len(blocking) == 6
        for piece in blocking:
            exec(piece, names)

    def test_the_example_runs(self) -> None:
        done = subprocess.run(
            [sys.executable, ROOT / "examples/sandbox.py"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "orders" in done.stdout
