from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from longshore_core import BackendError, ContainerId, ContainerSpec, Facts
from longshore_daemon import PortableRuntime, SandboxDaemon, assemble
from longshore_daemon.elf import ELF, NotELF

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="chroot is for root only")


def maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def some_library(runtime: PortableRuntime, target: Path) -> Path:
    """A library that can be recognised by its path where it is loaded."""
    shutil.copy(runtime.path / "lib/libm.so.6", target)
    return target


class TestAssembly:
    def test_the_same_is_made_once(self, tmp_path: Path) -> None:
        first = assemble(tmp_path)
        inode = first.path.stat().st_ino
        again = assemble(tmp_path)
        assert again == first
        assert again.path.stat().st_ino == inode
        assert os.listdir(tmp_path) == [first.digest]

    def test_many_may_try_at_once(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: assemble(tmp_path), range(4)))
        assert len(set(made)) == 1
        assert os.listdir(tmp_path) == [made[0].digest]

    def test_a_damaged_one_is_replaced(self, tmp_path: Path) -> None:
        runtime = assemble(tmp_path)
        start = runtime.path / "daemon/start.pyc"
        start.write_bytes(b"")
        assert assemble(tmp_path) == runtime
        assert start.stat().st_size > 0

    def test_what_was_never_finished_is_swept(self, tmp_path: Path) -> None:
        old, new = tmp_path / ".assembling-old", tmp_path / ".assembling-new"
        old.mkdir()
        new.mkdir()
        os.utime(old, (0, 0))
        assemble(tmp_path)
        assert not old.exists()
        assert new.exists()

    def test_an_interpreter_that_cannot_be_used_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/etc/passwd")
        with pytest.raises(BackendError, match="the portable runtime cannot be assembled: not a"):
            assemble(tmp_path)

    def test_no_program_brings_a_search_path_along(self, runtime: PortableRuntime) -> None:
        programs = [
            path
            for path in runtime.path.rglob("*")
            if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"
        ]
        assert len(programs) >= 4
        for path in programs:
            shown = path.read_bytes()
            elf = ELF(shown)
            elf.forget_search_path()
            assert elf.data == shown, path

    def test_the_loader_knows_no_preload_file(self, runtime: PortableRuntime) -> None:
        assert b"/etc/ld.so.preload" not in (runtime.path / "lib" / runtime.loader).read_bytes()


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01"])
def test_what_is_no_program_is_not_read(data: bytes) -> None:
    with pytest.raises(NotELF):
        ELF(data)


def other_interpreters() -> list[str]:
    names = ("python3.11", "python3.12", "python3.13")
    found = {shutil.which(name, path="/usr/bin:/usr/local/bin") for name in names}
    roots = Path.home().glob(".pyenv/versions/3.1[123].*/bin/python3")
    return sorted({str(Path(path).resolve()) for path in (*filter(None, found), *roots)})


@pytest.mark.parametrize("python", other_interpreters() or [sys.executable])
def test_each_interpreter_can_be_taken_elsewhere(
    python: str, tmp_path: Path, start: Callable[..., Any]
) -> None:
    """They need not have our dependencies: only what assembles is imported, around its shelf."""
    script = f"""
import pathlib, sys, types
core = types.ModuleType("longshore_core")
core.BackendError = RuntimeError
package = types.ModuleType("longshore_daemon")
package.__path__ = [{str(Path(assemble.__code__.co_filename).parent)!r}]
sys.modules |= {{"longshore_core": core, "longshore_daemon": package}}
from longshore_daemon.runtime import assemble
runtime = assemble(pathlib.Path(sys.argv[1]))
print(*runtime.argv(str(runtime.path)), sep="\\n")
"""
    done = subprocess.run(
        [python, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    daemon = start(tuple(done.stdout.split("\n")[:-1]), {"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
    assert daemon.ask("go", token="the-token") == {"ok": True}
    assert daemon.ask("nonsense")["code"] == "UNKNOWN_OPERATION"
    assert daemon.http.post("processes", content=b"{").json()["code"] == "INVALID_JSON"
    assert daemon.run("echo", "ż")[1]["line"] == "ż"
    assert daemon.log() == ""


@pytest.fixture
def root(runtime: PortableRuntime, tmp_path: Path) -> Path:
    """An image that holds nothing but the mounted runtime and the directory for sockets."""
    shutil.copytree(runtime.path, tmp_path / "image/.longshore/runtime", copy_function=os.link)
    (tmp_path / "image/sockets").mkdir()
    return tmp_path / "image"


@pytest.fixture
def start_in(root: Path, guest: SandboxDaemon, start: Callable[..., Any]) -> Callable[..., Any]:
    def begin(**env: str) -> Any:
        spec = guest.launch(ContainerSpec(id=ContainerId("c"), argv=(), env=env), Facts())
        seen = {**spec.env, "LONGSHORE_SOCKETS": "/sockets"}
        # The process enters its root before it becomes the daemon: there is no shell in there.
        enter = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); os.execve(sys.argv[2], "
        enter += "sys.argv[2:], {k: v for k, v in os.environ.items() if k != 'LC_CTYPE'})"
        argv = (sys.executable, "-I", "-S", "-c", enter, str(root), *spec.argv)
        return start(argv, seen, sockets=root / "sockets")

    return begin


@needs_root
class TestEmptyImage:
    def test_the_daemon_runs(self, start_in: Callable[..., Any]) -> None:
        daemon = start_in()
        daemon.ask("go", token="the-token")
        rt = "/.longshore/runtime"
        python = ("--library-path", f"{rt}/lib", f"{rt}/bin/python3", "-I", "-S", "-c")
        script = "import os, sys; print(sys.stdin.read(), os.environ['HOME'], os.listdir('/'))"
        argv = Path(f"/proc/{daemon.process.pid}/cmdline").read_text().split("\0")
        _, line, last = daemon.run(argv[0], *python, script)
        assert line["line"].startswith(" / [")
        assert last == {"exit_code": 0}
        assert daemon.log() == ""

    def test_output_is_kept_where_the_runtime_is_mounted(
        self, start_in: Callable[..., Any], root: Path
    ) -> None:
        (root / "tmp").mkdir()
        daemon = start_in()
        daemon.ask("go", token="the-token")
        argv = Path(f"/proc/{daemon.process.pid}/cmdline").read_text().split("\0")
        daemon.run(argv[0], "--version")
        descriptors = Path(f"/proc/{daemon.process.pid}/fd").iterdir()
        kept = [path for path in map(os.readlink, descriptors) if "/.longshore-" in path]
        assert {os.path.dirname(path) for path in kept} == {f"{root}/.longshore"}
        assert os.listdir(root / ".longshore") == ["runtime"]

    def test_files_go_in_and_out(self, start_in: Callable[..., Any], root: Path) -> None:
        daemon = start_in()
        daemon.ask("go", token="the-token")
        daemon.http.put("files?path=/data/file", content=b"data")
        assert (root / "data/file").read_bytes() == b"data"

    def test_discarded_output_and_closed_input_need_no_device(
        self, start_in: Callable[..., Any]
    ) -> None:
        daemon = start_in()
        daemon.ask("go", token="the-token")
        argv = Path(f"/proc/{daemon.process.pid}/cmdline").read_text().split("\0")
        info = daemon.start(argv[0], "--version", stdout_mode="discard", stderr_mode="discard")
        daemon.follow(info["pid"])
        assert daemon.http.get(f"processes/{info['pid']}").json()["exit_code"] == 0

    def test_the_preload_file_of_an_image_is_not_heeded(
        self, start_in: Callable[..., Any], root: Path, runtime: PortableRuntime
    ) -> None:
        (root / "etc").mkdir()
        some_library(runtime, root / "evil.so")
        (root / "etc/ld.so.preload").write_text("/evil.so\n")
        daemon = start_in()
        assert "evil" not in maps(daemon.process.pid)
        # The loader as it was would have heeded it.
        program = ELF(Path(sys.executable).resolve().read_bytes()).interpreter
        assert program is not None
        shutil.copy(program, root / "loader")
        runs = "/.longshore/runtime"
        daemon.ask("go", token="the-token")
        args = ["--library-path", f"{runs}/lib", f"{runs}/bin/python3", "-I", "-S", "-c", "input()"]
        info = daemon.start("/loader", *args, stdin_mode="pipe")
        while "libc.so" not in (mapped := maps(info["pid"])):
            pass
        assert "evil" in mapped


class TestImageVariables:
    @pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT"])
    def test_they_do_not_reach_pid_1_but_do_reach_user_processes(
        self, launch: Callable[..., Any], runtime: PortableRuntime, tmp_path: Path, name: str
    ) -> None:
        library = some_library(runtime, tmp_path / "evil.so")
        daemon = launch(**{name: str(library)})
        assert "evil" not in maps(daemon.process.pid)
        assert daemon.log() == ""
        daemon.ask("go", token="the-token")
        events = daemon.run("cat", "/proc/self/environ", "/proc/self/maps")
        text = "\n".join(event["line"] for event in events[1:-1])
        assert f"{name}={library}\0" in text
        if name == "LD_PRELOAD":
            assert text.count("evil.so") > 1

    def test_a_library_path_is_not_searched_for_pid_1(
        self, launch: Callable[..., Any], runtime: PortableRuntime, tmp_path: Path
    ) -> None:
        for name in ("libc.so.6", "libm.so.6"):
            shutil.copy(runtime.path / "lib" / name, tmp_path / name)
        daemon = launch(LD_LIBRARY_PATH=str(tmp_path), GLIBC_TUNABLES="glibc.malloc.check=3")
        assert str(tmp_path) not in maps(daemon.process.pid)
        daemon.ask("go", token="the-token")
        lines = [event["line"] for event in daemon.run("env")[1:-1]]
        assert f"LD_LIBRARY_PATH={tmp_path}" in lines
        assert "GLIBC_TUNABLES=glibc.malloc.check=3" in lines
        ours = [line for line in lines if line.startswith(("LONGSHORE", "LD_PRELOAD", "LC_"))]
        assert [line.partition("=")[0] for line in ours] == ["LONGSHORE_PROCESS"]


@needs_root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
class TestAsPid1:
    @pytest.fixture
    def daemon(self, guest: SandboxDaemon, start: Callable[..., Any]) -> Any:
        asked = {"PATH": "/usr/bin:/bin"}
        spec = guest.launch(
            ContainerSpec(id=ContainerId("c"), argv=(), env=asked), Facts(mounts=False)
        )
        own = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        daemon = start((*own, *spec.argv), spec.env)
        daemon.ask("go", token="the-token")
        assert daemon.run("sh", "-c", "echo $PPID")[1]["line"] == "1"
        return daemon

    def test_orphans_are_reaped_and_statuses_are_not_stolen(self, daemon: Any) -> None:
        script = "(sleep 0.01 & sleep 0.02 &) ; exit 7"
        for _ in range(20):
            assert daemon.run("sh", "-c", script)[-1] == {"exit_code": 7}
        count = "sleep 0.2; grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"
        assert daemon.run("sh", "-c", count)[1]["line"] == "0"

    def test_stop_ends_also_those_that_left_their_session(
        self, daemon: Any, wait_gone: Callable[[int], None]
    ) -> None:
        daemon.run("sh", "-c", "setsid sleep 4242 >/dev/null 2>&1 &")
        children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
        (pid1,) = children.read_text().split()
        daemon.ask("stop", grace_seconds=5)
        assert daemon.process.wait(4) == 0
        wait_gone(int(pid1))


def test_long_paths_of_socket_directories_are_no_obstacle(
    guest: SandboxDaemon, start: Callable[..., Any], tmp_path: Path
) -> None:
    deep = tmp_path.joinpath(*["directory"] * 15)
    deep.mkdir(parents=True)
    assert len(str(deep)) > 108
    (short := tmp_path / "s").symlink_to(deep)
    spec = guest.launch(ContainerSpec(id=ContainerId("c"), argv=()), Facts(mounts=False))
    env = {**spec.env, "LONGSHORE_SOCKETS": str(deep)}
    daemon = start(spec.argv, env, sockets=short)
    assert daemon.ask("health")["ok"]
    assert stat.S_ISSOCK((deep / "http.sock").stat().st_mode)


def test_a_daemon_that_cannot_listen_says_why(guest: SandboxDaemon) -> None:
    spec = guest.launch(ContainerSpec(id=ContainerId("c"), argv=()), Facts(mounts=False))
    env = {**spec.env, "LONGSHORE_SOCKETS": "/no/such"}
    done = subprocess.run(spec.argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "longshore-daemon: cannot start: [Errno 2] No such file or directory: '/no/such'\n"
    )
