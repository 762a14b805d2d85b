"""What files and directories are: made, moved, described, removed, watched."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import Options, Patience, SandboxDaemon
from longshore_daemon.inside.entry_routes import _remove_tree
from longshore_daemon.inside.http import BadRequest, parse_content_range
from longshore_daemon.inside.loop import Loop, pause

Daemon = Any
ODD_NAMES = ["a b+c%d&e?#", "żółw", "new\nline", os.fsdecode(b"\xff\xfe")]


def query(path: Path | str, **more: str) -> str:
    text = f"path={quote(os.fsencode(path), safe='')}"
    return "&".join([text, *(f"{name}={quote(value)}" for name, value in more.items())])


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def dig(top: Path, depth: int) -> str:
    """Make directories, each in the one before; the last."""
    deepest = str(top)
    os.mkdir(deepest)
    for _ in range(1, depth):
        deepest += "/d"
        os.mkdir(deepest)
    return deepest


class TestDirectories:
    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_they_are_made_with_those_above_them(
        self, daemon: Daemon, tmp_path: Path, method: str
    ) -> None:
        for _ in range(2):
            answer = daemon.http.request(method, f"files/mkdir?{query(tmp_path / 'a/b/c')}")
            assert answer.status_code == 204
        assert (tmp_path / "a/b/c").is_dir()

    def test_a_file_in_the_way_is_told(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in ("file", "file/below"):
            answer = daemon.http.post(f"files/mkdir?{query(tmp_path / path)}")
            assert outcome(answer) == (400, "NOT_A_DIRECTORY")

    def test_they_are_removed_with_all_that_is_in_them(
        self, daemon: Daemon, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").touch()
        tree = tmp_path / "tree"
        (tree / "deep" / "deeper").mkdir(parents=True)
        (tree / "empty").mkdir()
        (tree / "link").symlink_to(outside)
        for number in range(300):
            (tree / "deep" / str(number)).touch()
            (tree / "deep" / "deeper" / os.fsdecode(b"\xff%d" % number)).touch()
        assert outcome(daemon.http.delete(f"files?{query(tree)}")) == (400, "IS_DIRECTORY")
        before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        assert daemon.http.delete(f"files?{query(tree, recursive='true')}").status_code == 204
        assert sorted(os.listdir(tmp_path)) == ["outside"]
        assert os.listdir(outside) == ["precious"]
        assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) == before

    @pytest.mark.parametrize("end", ["", "/", "//", "/.", "/./"])
    def test_a_link_to_one_is_removed_alone(self, daemon: Daemon, tmp_path: Path, end: str) -> None:
        (tmp_path / "directory").mkdir()
        (tmp_path / "directory/file").touch()
        (tmp_path / "link").symlink_to("directory")
        path = query(f"{tmp_path}/link{end}", recursive="true")
        assert daemon.http.delete(f"files?{path}").status_code == 204
        assert os.listdir(tmp_path) == ["directory"]
        assert os.listdir(tmp_path / "directory") == ["file"]

    def test_a_deep_one_takes_few_descriptors(self, daemon: Daemon, tmp_path: Path) -> None:
        dig(tmp_path / "d", 300)
        daemon.http.get("health")
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (100, 100))
        before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        answer = daemon.http.delete(f"files?{query(tmp_path / 'd', recursive='true')}")
        assert answer.status_code == 204, answer.text
        assert os.listdir(tmp_path) == []
        assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) == before

    def test_where_a_part_was_moved_to_nothing_is_removed(self, tmp_path: Path) -> None:
        """The way up leads there, for one who does not look."""
        deepest = dig(tmp_path / "d", 80)
        moved = tmp_path.joinpath(*["d"] * 10)
        (tmp_path / "outside/d").mkdir(parents=True)
        refused = list[str]()

        async def remove() -> None:
            try:
                await _remove_tree(str(tmp_path / "d"))
            except OSError as exc:
                refused.append(str(exc))

        async def main() -> None:
            loop.start(remove())
            while os.path.exists(deepest):
                await pause()
            moved.rename(tmp_path / "outside/moved")
            while not refused and moved.parent.exists():
                await pause()

        loop = Loop()
        loop.run(main())
        assert refused == ["[Errno 2] a directory was moved away meanwhile"]
        assert sorted(os.listdir(tmp_path / "outside")) == ["d", "moved"]

    def test_everything_is_too_much(self, daemon: Daemon) -> None:
        for path in ("/", "//", "/."):
            answer = daemon.http.delete(f"files?{query(path, recursive='true')}")
            assert outcome(answer) == (403, "PERMISSION_DENIED")


class TestRename:
    def move(self, daemon: Daemon, source: Path | str, target: Path | str) -> httpx.Response:
        response: httpx.Response = daemon.http.post(
            "files/rename", json={"from": str(source), "to": str(target)}
        )
        return response

    def test_a_file_takes_the_place_of_another(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("new")
        (tmp_path / "b").write_text("old")
        assert self.move(daemon, tmp_path / "a", tmp_path / "b").status_code == 204
        assert os.listdir(tmp_path) == ["b"]
        assert (tmp_path / "b").read_text() == "new"

    def test_a_directory_goes_where_none_has_been(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").touch()
        assert self.move(daemon, tmp_path / "a", tmp_path / "n" / "e" / "w").status_code == 204
        assert os.listdir(tmp_path / "n" / "e" / "w") == ["x"]

    def test_a_link_is_moved_itself(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/nowhere")
        assert self.move(daemon, tmp_path / "link", tmp_path / "other").status_code == 204
        assert os.readlink(tmp_path / "other") == "/nowhere"

    def test_a_file_is_carried_to_another_file_system(self, daemon: Daemon, tmp_path: Path) -> None:
        if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is one file system only")
        data = os.urandom(3_000_000)
        (tmp_path / "file").write_bytes(data)
        (tmp_path / "file").chmod(0o640)
        before = (tmp_path / "file").stat()
        away = Path(f"/dev/shm/longshore-test-{os.getpid()}")
        try:
            assert self.move(daemon, tmp_path / "file", away / "x").status_code == 204
            after = (away / "x").stat()
            assert (away / "x").read_bytes() == data
            assert os.listdir(away) == ["x"]
            assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
            assert os.listdir(tmp_path) == []
            (away / "directory").mkdir()
            answer = self.move(daemon, away / "directory", tmp_path / "d")
            assert outcome(answer) == (400, "CROSS_DEVICE")
        finally:
            daemon.http.delete(f"files?{query(away, recursive='true')}")
        assert not away.exists()

    def test_what_cannot_be_is_told(self, daemon: Daemon, tmp_path: Path) -> None:
        for name in ("full", "other"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x").touch()
        answer = self.move(daemon, tmp_path / "none", tmp_path / "b")
        assert outcome(answer) == (404, "NOT_FOUND")
        assert answer.json()["error"] == f"File not found: {tmp_path}/none"
        answer = self.move(daemon, tmp_path / "full", tmp_path / "other")
        assert outcome(answer) == (409, "ALREADY_EXISTS")
        answer = self.move(daemon, tmp_path / "full", tmp_path / "full" / "x" / "y")
        assert outcome(answer) == (400, "NOT_A_DIRECTORY")
        assert outcome(self.move(daemon, "a/../b", "c")) == (403, "PATH_TRAVERSAL")
        assert outcome(self.move(daemon, "a", "b/../c")) == (403, "PATH_TRAVERSAL")
        answer = daemon.http.post("files/rename", json={"from": "a"})
        assert outcome(answer) == (422, "INVALID_REQUEST")
        answer = daemon.http.post("files/rename", content=b'{"from": "\\ud800", "to": "b"}')
        assert outcome(answer) == (400, "INVALID_JSON")

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_names_may_be_anything(self, daemon: Daemon, tmp_path: Path, name: str) -> None:
        (tmp_path / "plain").write_text("x")
        source, target = quote(str(tmp_path / "plain")), quote(os.fsencode(tmp_path / name))
        assert daemon.http.post(f"files/rename?from={source}&to={target}").status_code == 204
        assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(name)]


class TestStat:
    def test_a_file_is_described(self, daemon: Daemon, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"12345")
        path.chmod(0o4750)
        status = path.stat()
        assert daemon.http.get(f"files/stat?{query(path)}").json() == {
            "path": str(path),
            "type": "file",
            "is_dir": False,
            "size": 5,
            "mode": "4750",
            "uid": status.st_uid,
            "gid": status.st_gid,
            "links": 1,
            "modified_at": status.st_mtime_ns // 1_000_000,
            "accessed_at": status.st_atime_ns // 1_000_000,
            "changed_at": status.st_ctime_ns // 1_000_000,
            "target": None,
        }

    def test_kinds_are_told_apart(self, daemon: Daemon, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "link").symlink_to("/nowhere")
        kinds = [
            (tmp_path, "directory"),
            (tmp_path / "fifo", "fifo"),
            ("/dev/null", "character_device"),
        ]
        for path, kind in kinds:
            shown = daemon.http.get(f"files/stat?{query(path)}").json()
            assert (shown["type"], shown["is_dir"]) == (kind, kind == "directory")
        shown = daemon.http.get(f"files/stat?{query(tmp_path / 'link')}").json()
        assert (shown["type"], shown["target"]) == ("symlink", "/nowhere")
        answer = daemon.http.get(f"files/stat?{query(tmp_path / 'link', follow='true')}")
        assert outcome(answer) == (404, "NOT_FOUND")

    def test_a_name_that_is_not_utf_8_can_be_asked_for_as_listed(
        self, daemon: Daemon, tmp_path: Path
    ) -> None:
        (tmp_path / os.fsdecode(b"x\xff")).write_text("found")
        answer = daemon.http.get(f"files/list?{query(tmp_path)}")
        (entry,) = answer.json()["entries"]
        assert (entry["name"], entry["name_encoded"]) == ("x\ufffd", "%78%FF")
        found = daemon.http.get(f"files?{query(tmp_path)}/{entry['name_encoded']}")
        assert found.text == "found"

    def test_a_mode_is_changed(self, daemon: Daemon, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        for mode, expected in (("0755", 0o755), ("600", 0o600), ("4711", 0o4711)):
            answer = daemon.http.post(f"files/chmod?{query(path)}", json={"mode": mode})
            assert answer.status_code == 204
            assert stat.S_IMODE(path.stat().st_mode) == expected
        answer = daemon.http.post("files/chmod", json={"path": str(path), "mode": "0640"})
        assert answer.status_code == 204
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    @pytest.mark.parametrize("mode", ["", "8", "77777", "u+x", "-1", 493, None])
    def test_what_is_no_mode_is_refused(self, daemon: Daemon, tmp_path: Path, mode: Any) -> None:
        answer = daemon.http.post(f"files/chmod?{query(tmp_path)}", json={"mode": mode})
        assert outcome(answer) == (422, "INVALID_REQUEST")


class TestParts:
    """Uploads that go on where they broke off."""

    def put(self, daemon: Daemon, path: Path, data: bytes, **more: Any) -> httpx.Response:
        offset = {"offset": str(more["offset"])} if "offset" in more else {}
        headers = {"Content-Range": more["range"]} if "range" in more else {}
        target = f"files?{query(path, **offset)}"
        response: httpx.Response = daemon.http.put(target, content=data, headers=headers)
        return response

    def test_a_broken_upload_is_resumed(self, daemon: Daemon, tmp_path: Path) -> None:
        path, data = tmp_path / "new" / "file", os.urandom(1_000_000)
        head = f"PUT /api/v1/files?{query(path, offset='0')} HTTP/1.1\r\n"
        with daemon.connect() as sock:
            sock.sendall(head.encode() + b"Content-Length: 1000000\r\n")
            sock.sendall(b"Longshore-Sandbox-Token: the-token\r\n\r\n" + data[:300_000])
            while not path.exists() or path.stat().st_size < 300_000:
                assert daemon.ask("health")["ok"]
        answer = daemon.http.head(f"files?{query(path)}")
        assert answer.headers["content-length"] == "300000"
        assert self.put(daemon, path, data[300_000:], offset=300_000).status_code == 204
        assert path.read_bytes() == data

    def test_a_part_is_replaced_in_place(self, daemon: Daemon, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        inode = path.stat().st_ino
        assert self.put(daemon, path, b"abc", offset=2).status_code == 204
        assert self.put(daemon, path, b"xyz", range="bytes 8-10/*").status_code == 204
        assert path.read_bytes() == b"01abc567xyz"
        assert self.put(daemon, path, b"ENDS", range="bytes 4-7/8").status_code == 204
        assert path.read_bytes() == b"01abENDS"
        assert path.stat().st_ino == inode

    def test_a_hole_is_refused_with_what_there_is(self, daemon: Daemon, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"0123")
        answer = self.put(daemon, path, b"x", offset=5)
        assert outcome(answer) == (409, "OFFSET_MISMATCH")
        assert answer.headers["content-range"] == "bytes */4"
        assert outcome(self.put(daemon, tmp_path / "none", b"x", offset=1)) == (404, "NOT_FOUND")
        assert path.read_bytes() == b"0123"

    @pytest.mark.parametrize(
        "more",
        [
            {"offset": "-1"},
            {"offset": "x"},
            {"offset": "1" * 19},
            {"range": "bytes 0-1"},
            {"range": "bytes 2-1/9"},
            {"range": "bytes 0-9/9"},
            {"range": "lines 0-1/2"},
            {"range": "bytes 0-5/*"},
        ],
    )
    def test_what_is_no_part_is_refused(
        self, daemon: Daemon, tmp_path: Path, more: dict[str, str]
    ) -> None:
        answer = self.put(daemon, tmp_path / "file", b"abc", **more)
        assert outcome(answer) == (400, "BAD_REQUEST")

    def test_it_is_no_way_to_write_to_what_is_no_file(self, daemon: Daemon, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert outcome(self.put(daemon, tmp_path / "pipe", b"x", offset=0))[1] == "NOT_A_FILE"
        assert outcome(self.put(daemon, tmp_path, b"x", offset=0))[1] == "IS_DIRECTORY"

    @settings(deadline=None)
    @given(st.text("bytes 0123456789-/*", max_size=24))
    def test_any_text_is_a_part_or_a_bad_request(self, text: str) -> None:
        try:
            span = parse_content_range(text)
        except BadRequest:
            return
        assert span.end is not None
        assert 0 <= span.start < span.end <= (span.size or span.end)


class TestRoot:
    """A daemon whose files are confined to a directory."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "root" / "inner").mkdir(parents=True)
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "away").mkdir()
        (tmp_path / "root" / "file").write_text("text")
        (tmp_path / "root" / "leaf").symlink_to(tmp_path / "secret")
        (tmp_path / "root" / "branch").symlink_to(tmp_path)
        (tmp_path / "root" / "own").symlink_to("inner")
        return tmp_path / "root"

    @pytest.fixture
    def confined(self, runtime: Any, root: Path, start: Callable[..., Daemon]) -> Daemon:
        patience = Patience(start=10, call=5, grace=5)
        guest = SandboxDaemon(runtime, patience, Options(files_root=str(root)))
        env = {"PATH": os.environ["PATH"]}
        spec = ContainerSpec(id=ContainerId("c"), argv=(), env=env)
        launched = guest.launch(spec, Facts(mounts=False))
        daemon = start(launched.argv, launched.env)
        assert daemon.ask("go", token="the-token", env={})["ok"]
        return daemon

    def test_what_is_within_is_reached(self, confined: Daemon, root: Path) -> None:
        for path in ("file", root / "file", f"{root}/own/../file".replace("own/../", "")):
            assert confined.http.get(f"files?{query(path)}").text == "text"
        assert confined.http.put(f"files?{query('own/new')}", content=b"x").status_code == 204
        assert (root / "inner" / "new").read_text() == "x"
        assert confined.http.post(f"files/mkdir?{query('a/b')}").status_code == 204
        answer = confined.http.post("files/rename", json={"from": "own/new", "to": "a/b/c"})
        assert answer.status_code == 204
        assert (root / "a/b/c").exists()
        assert confined.http.get(f"files/list?{query(root)}").status_code == 200
        assert confined.http.get(f"files/stat?{query('.')}").json()["is_dir"]

    @pytest.mark.parametrize("path", ["leaf", "branch/secret", "/etc/passwd", "SECRET", "/"])
    @pytest.mark.parametrize(
        ("method", "route"),
        [
            ("GET", "files?"),
            ("PUT", "files?"),
            ("PUT", "files?offset=0&"),
            ("GET", "files/stat?follow=true&"),
            ("POST", "files/chmod?"),
            ("GET", "files/list?"),
            ("GET", "files/watch?"),
            ("POST", "files/mkdir?"),
        ],
    )
    def test_nothing_outside_is_reached(
        self, confined: Daemon, root: Path, method: str, route: str, path: str
    ) -> None:
        path = path.replace("SECRET", str(root.parent / "secret"))
        body = json.dumps({"mode": "0777"}).encode()
        answer = confined.http.request(method, f"{route}{query(path)}", content=body)
        assert outcome(answer) == (403, "PATH_TRAVERSAL")
        assert (root.parent / "secret").read_text() == "secret"

    def test_nothing_is_moved_or_removed_across(self, confined: Daemon, root: Path) -> None:
        for source, target in (("file", "branch/x"), ("branch/secret", "x"), ("file", "/tmp/x")):
            answer = confined.http.post("files/rename", json={"from": source, "to": target})
            assert outcome(answer) == (403, "PATH_TRAVERSAL")
        for path in ("branch/secret", "branch/away", str(root.parent / "away")):
            answer = confined.http.delete(f"files?{query(path, recursive='true')}")
            assert outcome(answer) == (403, "PATH_TRAVERSAL")
        answer = confined.http.delete(f"files?{query(root, recursive='true')}")
        assert outcome(answer) == (403, "PERMISSION_DENIED")
        assert sorted(os.listdir(root.parent)) == ["away", "root", "secret"]

    def test_links_themselves_may_be_removed(self, confined: Daemon, root: Path) -> None:
        assert confined.http.delete(f"files?{query('leaf')}").status_code == 204
        assert not (root / "leaf").is_symlink()

    def test_processes_do_not_learn_of_it(self, confined: Daemon) -> None:
        *_, last = confined.run("sh", "-c", "env | grep LONGSHORE_FILES")
        assert last == {"exit_code": 1}


class TestWatch:
    @staticmethod
    def events(daemon: Daemon, path: Path, **more: str) -> Iterator[tuple[str, dict[str, Any]]]:
        with daemon.http.stream("GET", f"files/watch?{query(path, **more)}") as response:
            assert response.status_code == 200, response.read()
            name = ""
            for line in response.iter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    yield name, json.loads(line[6:])

    def test_what_happens_in_a_directory_is_told(self, daemon: Daemon, tmp_path: Path) -> None:
        events = self.events(daemon, tmp_path)
        assert next(events) == ("ready", {})
        path = tmp_path / "file"
        path.write_text("x")
        for kind in ("created", "modified", "written"):
            expected = {"kind": kind, "path": str(path), "is_dir": False}
            assert next(events) == ("change", expected)
        path.rename(tmp_path / "other")
        _, old = next(events)
        _, new = next(events)
        assert (old["kind"], old["path"]) == ("moved_from", str(path))
        assert (new["kind"], new["path"]) == ("moved_to", str(tmp_path / "other"))
        assert old["cookie"] == new["cookie"]
        (tmp_path / "other").unlink()
        assert next(events)[1]["kind"] == "deleted"
        (tmp_path / "directory").mkdir()
        assert next(events)[1] == {
            "kind": "created",
            "path": str(tmp_path / "directory"),
            "is_dir": True,
        }
        (tmp_path / "directory" / "unseen").touch()
        (tmp_path / os.fsdecode(b"\xff")).touch()
        _, odd = next(events)
        assert odd["path"] == f"{tmp_path}/\ufffd"
        assert odd["path_encoded"].endswith("%2F%FF")
        events.close()

    def test_what_happens_below_is_told_when_wanted(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        events = self.events(daemon, tmp_path, recursive="true")
        assert next(events) == ("ready", {})
        (tmp_path / "a" / "b" / "deep").touch()
        assert next(events)[1]["path"] == str(tmp_path / "a" / "b" / "deep")
        (tmp_path / "new" / "nest").mkdir(parents=True)
        (tmp_path / "new" / "nest" / "egg").touch()
        seen = set()
        while str(tmp_path / "new" / "nest" / "egg") not in seen:
            seen.add(next(events)[1]["path"])
        (tmp_path / "a" / "b").rename(tmp_path / "moved")
        (tmp_path / "moved" / "later").touch()
        while str(tmp_path / "moved" / "later") not in seen:
            seen.add(next(events)[1]["path"])
        assert str(tmp_path / "a" / "b" / "later") not in seen
        events.close()

    def test_a_tree_may_be_as_deep_as_a_path_is_long(self, daemon: Daemon, tmp_path: Path) -> None:
        deepest = f"{dig(tmp_path / 'd', 1500)}/file"
        events = self.events(daemon, tmp_path, recursive="true")
        assert next(events)[0] == "ready"
        Path(deepest).touch()
        assert next(events)[1]["path"] == deepest
        path = query(tmp_path / "d", recursive="true")
        assert daemon.http.delete(f"files?{path}").status_code == 204
        assert os.listdir(tmp_path) == []

    def test_it_ends_with_what_is_watched(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "directory").mkdir()
        events = self.events(daemon, tmp_path / "directory")
        assert next(events) == ("ready", {})
        (tmp_path / "directory").rmdir()
        assert list(events)[-1] == ("eof", {})

    def test_a_file_can_be_watched(self, daemon: Daemon, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        events = self.events(daemon, tmp_path / "file")
        assert next(events) == ("ready", {})
        (tmp_path / "file").write_text("y")
        kinds = {next(events)[1]["kind"] for _ in range(2)}
        assert kinds <= {"modified", "written"}
        events.close()

    def test_what_is_not_there_is_not_found(self, daemon: Daemon, tmp_path: Path) -> None:
        answer = daemon.http.get(f"files/watch?{query(tmp_path / 'none')}")
        assert outcome(answer) == (404, "NOT_FOUND")

    def test_watchers_leave_nothing_behind(self, daemon: Daemon, tmp_path: Path) -> None:
        assert daemon.http.get("info").status_code == 200
        before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        for _ in range(20):
            events = self.events(daemon, tmp_path)
            assert next(events) == ("ready", {})
            events.close()
        while len(os.listdir(f"/proc/{daemon.process.pid}/fd")) > before:
            assert daemon.ask("health")["ok"]
