from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import longshore_daemon.inside
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longshore_daemon.imports import discover
from longshore_daemon.inside import environment
from longshore_daemon.inside.jsontext import NotJSON, dumps, escaped, loads, quoted
from longshore_daemon.inside.kin import MARK, Kin, new_mark
from longshore_daemon.inside.lines import Line, Lines
from longshore_daemon.inside.loop import READ, Bell, Loop, Wait, pause
from longshore_daemon.inside.output import Output
from longshore_daemon.inside.process import Command
from longshore_daemon.inside.processes import Processes
from longshore_daemon.inside.store import Store

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES)
def test_json_survives_the_round_trip(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert json.loads(dumps(value)) == value


@settings(deadline=None)
@given(st.text('[]{}",:0123456789.eE+-truefalsnN \n\\u', max_size=20))
def test_json_is_what_json_is(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=lambda _: math.inf * "")
    except (ValueError, TypeError):
        with pytest.raises(NotJSON):
            loads(text.encode())
    else:
        assert loads(text.encode()) == expected


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(1, 10))
def test_text_is_the_same_in_pieces(text: bytes, size: int) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    whole = quoted(text)
    assert b'"' + b"".join(escaped(pieces)) + b'"' == whole
    assert json.loads(whole) == text.decode("utf-8", "replace")


CHUNKS = st.lists(
    st.tuples(st.integers(0, 1), st.text("ab\r\n", min_size=1, max_size=6)), max_size=12
)


@settings(deadline=None)
@given(CHUNKS)
def test_lines_are_the_same_however_their_bytes_arrive(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, str]]
) -> None:
    output = Output(Store((str(tmp_path_factory.mktemp("output")),)), 1 << 20)
    for stream, text in chunks:
        output.append(stream, text.encode())
    with output.open() as reader:
        for streams in ((0,), (1,), (0, 1)):
            lines, seen = Lines(reader, streams), {0: list[str](), 1: list[str]()}
            while (found := lines.more()) is not None:
                for line in found:
                    assert isinstance(line, Line)
                    text = lines.whole(line)
                    pieces = b"".join(lines.pieces(line))
                    assert text is None or text == pieces
                    seen[line.stream].append(pieces.decode())
            for line in lines.rest():
                seen[line.stream].append(b"".join(lines.pieces(line)).decode())
            for stream in streams:
                assert seen[stream] == _split("".join(text for of, text in chunks if of == stream))
    output.remove()


def _split(text: str) -> list[str]:
    *lines, last = text.split("\n")
    return [line.removesuffix("\r") for line in lines] + ([last] if last else [])


class TestLoop:
    def test_a_bell_wakes_all_who_wait(self) -> None:
        bell, seen = Bell(), list[str]()

        async def wait(name: str) -> None:
            assert await Wait(bells=(bell,))
            seen.append(name)

        async def main() -> None:
            for name in "abc":
                loop.start(wait(name))
            await pause()
            bell.ring()
            await pause()

        loop = Loop()
        loop.run(main())
        assert seen == ["a", "b", "c"]

    def test_a_deadline_answers_no(self) -> None:
        answers = list[bool]()

        async def main() -> None:
            answers.append(await Wait(bells=(Bell(),), deadline=0.0))

        Loop().run(main())
        assert answers == [False]

    def test_the_first_of_several_ends_the_wait_and_is_named(self) -> None:
        reading, writing = os.pipe()
        quiet, other = os.pipe()
        fired = list[int | None]()

        async def main() -> None:
            os.write(writing, b"x")
            wait = Wait((reading, READ), (quiet, READ), bells=(Bell(),))
            assert await wait
            fired.append(wait.fired)

        Loop().run(main())
        assert fired == [reading]
        for descriptor in (reading, writing, quiet, other):
            os.close(descriptor)

    def test_a_task_that_breaks_takes_no_other_with_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async def broken() -> None:
            raise ZeroDivisionError("on purpose")

        async def main() -> None:
            loop.start(broken())
            await pause()
            await pause()

        loop = Loop()
        loop.run(main())
        assert "ZeroDivisionError: on purpose" in capsys.readouterr().err

    def test_who_pauses_goes_on_before_who_waits_for_what_is_there_by_now(self) -> None:
        reading, writing = os.pipe()
        seen = list[str]()

        async def wait() -> None:
            await Wait((reading, READ))
            seen.append("waited")

        async def main() -> None:
            loop.start(wait())
            await pause()
            os.write(writing, b"x")
            await pause()
            seen.append("paused")
            await pause()

        loop = Loop()
        loop.run(main())
        os.close(reading)
        os.close(writing)
        assert seen == ["paused", "waited"]


def test_both_outputs_are_kept_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(go)
    os.mkfifo(done)
    order = list[tuple[int, bytes]]()

    async def main() -> None:
        script = "printf a; read x < go; printf b; printf c >&2; echo > done; exec sleep 60"
        command = Command("sh", ["-c", script])
        command.working_dir = str(tmp_path)
        process = processes.spawn(command)
        await Wait(bells=(process.output.changed,))
        # Nothing is read meanwhile.
        go.write_text("\n")
        done.read_text()
        while process.output.total < 3:
            await Wait(bells=(process.output.changed,))
        with process.output.open() as reader:
            for number in range(3):
                chunk = reader.chunk(number)
                order.append((chunk.stream, reader.read(chunk.stream, chunk.start, chunk.end)))
        process.kill()
        while process.running:
            processes.reap()
            await pause()

    loop = Loop()
    processes = Processes(loop, {"PATH": os.environ["PATH"]}, Store((str(tmp_path),)))
    loop.run(main())
    assert order == [(0, b"a"), (0, b"b"), (1, b"c")]


def test_what_the_daemon_has_to_say_waits_for_nobody() -> None:
    script = """
import os
from longshore_daemon.inside.journal import note
os.set_blocking(2, False)
try:
    while os.write(2, b"x" * 4096):
        pass
except BlockingIOError:
    os.set_blocking(2, True)
note("nobody reads this")
"""
    reading, writing = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", script], stderr=writing, timeout=20)
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The directories that are listed."""
    looks = list[object]()
    listdir = os.listdir

    def counting(path: Any) -> list[str]:
        looks.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counting)
    return looks


def test_stopping_looks_through_all_processes_a_few_times_however_many_have_ended(
    tmp_path: Path, looks: list[object]
) -> None:
    async def main() -> None:
        ended = [processes.spawn(Command("true", [])) for _ in range(20)]
        while any(process.running for process in ended):
            processes.reap()
            await pause()
        looks.clear()
        await processes.stop(1)

    loop = Loop()
    processes = Processes(loop, {"PATH": os.environ["PATH"]}, Store((str(tmp_path),)))
    loop.run(main())
    assert looks.count("/proc") < 5


def test_one_look_tells_of_all_that_ended_whether_anybody_is_left(
    tmp_path: Path, looks: list[object]
) -> None:
    async def main() -> None:
        command = Command("true", [])
        command.timeout = 60
        ended = [processes.spawn(command) for _ in range(20)]
        while any(process.running for process in ended):
            processes.reap()
            await pause()
        await Wait(deadline=monotonic() // 1 + 2.5)

    loop = Loop()
    processes = Processes(loop, {"PATH": os.environ["PATH"]}, Store((str(tmp_path),)))
    loop.run(main())
    assert 0 < looks.count("/proc") < 4


def test_orphans_are_known_by_their_mark() -> None:
    marks = [new_mark(), new_mark()]
    script = "sleep 60 & wait"
    children = [
        subprocess.Popen(["sh", "-c", script], env={**os.environ, MARK: mark}) for mark in marks
    ]
    try:
        kin = Kin()
        for child, mark in zip(children, marks, strict=True):
            assert kin.family(None, mark)[0] == child.pid
        assert kin.family(None, new_mark()) == []
    finally:
        for child, mark in zip(children, marks, strict=True):
            for pid in Kin().family(None, mark):
                os.kill(pid, signal.SIGKILL)
            child.wait()


class TestEnvironment:
    def test_blanked_variables_are_given_back(self) -> None:
        env = environment.for_users({
            "LD_PRELOAD": "",
            "LC_ALL": "C",
            "LONGSHORE_BLANKED": "LD_PRELOAD LC_ALL",
            "LONGSHORE_RESTORE_LC_ALL": "pl_PL.UTF-8",
            "LONGSHORE_SOCKETS": "/s",
            "PATH": "/bin",
            "HOME": "/h",
        })  # fmt: skip
        assert env == {"LC_ALL": "pl_PL.UTF-8", "PATH": "/bin", "HOME": "/h"}

    def test_a_home_is_found_without_the_c_library(self, tmp_path: Path) -> None:
        passwd = tmp_path / "passwd"
        passwd.write_text(
            "broken\nroot:x:0:0:root:/root:/bin/sh\nme:x:7:7::/home/me:\nno:x:8:8:::\n"
        )
        assert environment.home(7, str(passwd)) == "/home/me"
        assert environment.home(8, str(passwd)) == "/"
        assert environment.home(9, str(passwd)) == "/"
        assert environment.home(7, str(tmp_path / "none")) == "/"

    def test_commands_are_found_as_a_shell_finds_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for place in ("a", "b"):
            (tmp_path / place).mkdir()
            (tmp_path / place / "tool").touch()
        (tmp_path / "b" / "tool").chmod(0o755)
        (tmp_path / "a" / "only").touch()
        path = f"{tmp_path}/none:{tmp_path}/a:{tmp_path}/b"
        assert environment.find_command("tool", path) == f"{tmp_path}/b/tool"
        assert environment.find_command("only", path) == f"{tmp_path}/a/only"
        assert environment.find_command("nothing", path) is None
        assert environment.find_command("./x", path) == "./x"
        monkeypatch.chdir(tmp_path / "b")
        assert environment.find_command("tool", "") == "./tool"


def test_the_daemon_imports_nothing_dear_and_nothing_that_loads_code() -> None:
    package = Path(longshore_daemon.inside.__file__).parent
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROBE, str(package.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stdout.split())
    dear = {
        *("typing", "dataclasses", "enum", "re", "json", "logging", "asyncio", "threading"),
        *("subprocess", "selectors", "socket", "ssl", "collections", "functools", "tempfile"),
        *("contextlib", "signal", "inspect", "random", "urllib", "http"),
    }
    dangerous = {"pwd", "grp", "locale", "ctypes", "_ctypes"}
    assert imported & (dear | dangerous) == set()
    assert "longshore_daemon.inside.server" in imported
    for name in ("terminal", "websocket", "h2", "hpack", "calls", "watch_routes"):
        assert f"longshore_daemon.inside.{name}" not in imported


_PROBE = """
import sys, types
package = types.ModuleType("longshore_daemon")
package.__path__ = [sys.argv[1]]
sys.modules["longshore_daemon"] = package
import longshore_daemon.inside.daemon
print(*sys.modules)
"""


def test_discovery_finds_the_daemon_and_its_libraries() -> None:
    imports = discover(Path(longshore_daemon.inside.__file__).parents[1])
    assert "longshore_daemon.inside.server" in imports.modules
    assert "longshore_daemon.inside.terminal" in imports.modules
    assert "encodings.utf_8" in imports.modules
    assert any(path.name.startswith("libc.so") for path in imports.mapped)


def test_neither_asyncio_nor_openssl_is_ever_imported() -> None:
    """Not even by what is imported late."""
    imports = discover(Path(longshore_daemon.inside.__file__).parents[1])
    tops = {name.partition(".")[0] for name in imports.modules}
    assert tops & {"asyncio", "ssl", "_ssl", "_hashlib", "hashlib"} == set()
    assert not [path for path in imports.mapped if "ssl" in path.name or "crypto" in path.name]
