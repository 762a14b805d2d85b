from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from longshore_daemon.inside.exchange import Exchange
from longshore_daemon.inside.file_routes import FileRoutes
from longshore_daemon.inside.http import Head
from longshore_daemon.inside.loop import Loop
from longshore_daemon.inside.paths import Paths
from longshore_daemon.inside.stream import Stream

Daemon = Any


def put(daemon: Daemon, path: Path | str, content: Any = b"x", **headers: str) -> httpx.Response:
    return daemon.http.put("files", params={"path": str(path)}, content=content, headers=headers)


def get(daemon: Daemon, path: Path | str, **headers: str) -> httpx.Response:
    return daemon.http.get("files", params={"path": str(path)}, headers=headers)


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize("data", [b"", b"\0\xff\r\n", b"x" * 300_000])
def test_a_file_comes_back_as_it_was_put(daemon: Daemon, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "new" / "directories" / "file"
    assert put(daemon, path, data).status_code == 204
    answer = get(daemon, path)
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(data))
    assert os.listdir(path.parent) == ["file"]


def test_64_mib_pass_through_without_being_held(daemon: Daemon, tmp_path: Path) -> None:
    data = os.urandom(64 << 20)
    path = tmp_path / "big"
    head = f"PUT /api/v1/files?path={path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n"
    with daemon.connect() as sock:
        sock.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\n")
        sock.sendall(data)
        assert sock.recv(1000).startswith(b"HTTP/1.1 204 ")
    seen = hashlib.sha256()
    with daemon.http.stream("GET", "files", params={"path": str(path)}) as response:
        for piece in response.iter_raw():
            seen.update(piece)
    assert seen.digest() == hashlib.sha256(data).digest()
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 20_000


@pytest.mark.parametrize("name", ["a b+c%d&e?#", "żółw", "new\nline", os.fsdecode(b"\xff")])
def test_names_may_be_anything(daemon: Daemon, tmp_path: Path, name: str) -> None:
    target = f"files?path={quote(os.fsencode(tmp_path / name))}"
    assert daemon.http.put(target, content=b"x").status_code == 204
    assert (tmp_path / name).read_bytes() == b"x"
    assert daemon.http.get(target).content == b"x"
    assert daemon.http.delete(target).status_code == 204


def test_a_plus_in_a_query_is_a_space(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"x")
    assert daemon.http.get(f"files?path={tmp_path}/a+b").content == b"x"


def test_a_file_that_is_replaced_hands_on_its_mode_and_owner(
    daemon: Daemon, tmp_path: Path
) -> None:
    path = tmp_path / "script"
    path.write_bytes(b"old")
    os.chown(path, 12, 34) if os.getuid() == 0 else None
    path.chmod(0o4751)
    before = path.stat()
    put(daemon, path, b"new")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert after.st_ino != before.st_ino


@pytest.mark.parametrize("there", [False, True])
def test_a_file_gets_the_mode_that_is_asked_for(
    daemon: Daemon, tmp_path: Path, there: bool
) -> None:
    path = tmp_path / "file"
    if there:
        path.touch(0o755)
    target = f"files?path={quote(os.fsencode(path))}&mode=0640"
    assert daemon.http.put(target, content=b"new").status_code == 204
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    answer = daemon.http.put(target.replace("0640", "0o640"), content=b"")
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_REQUEST")
    assert path.read_bytes() == b"new"


def test_what_comes_is_nobody_elses_to_read_before_its_mode_has_come(
    daemon: Daemon, tmp_path: Path
) -> None:
    head = f"PUT /api/v1/files?path={tmp_path}/key&mode=0600 HTTP/1.1\r\nContent-Length: 100\r\n"
    with daemon.connect() as sock:
        sock.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\nhalf")
        while not (there := list(tmp_path.iterdir())):
            assert daemon.process.poll() is None
        assert stat.S_IMODE(there[0].stat().st_mode) == 0o600


@pytest.mark.needs_root
def test_a_mount_point_is_written_to(daemon: Daemon, tmp_path: Path) -> None:
    """As an engine makes one of /etc/hosts."""
    (tmp_path / "outside").write_bytes(b"127.0.0.1 localhost\n" * 9)
    path = tmp_path / "hosts"
    path.touch()
    subprocess.run(["mount", "--bind", str(tmp_path / "outside"), str(path)], check=True)
    try:
        put(daemon, path, b"::1 localhost\n")
        assert (tmp_path / "outside").read_bytes() == b"::1 localhost\n"
        answer = daemon.http.delete(f"files?path={path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "FILE_BUSY")
    finally:
        subprocess.run(["umount", str(path)], check=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["hosts", "outside"]


def test_a_program_that_runs_is_not_written_into(daemon: Daemon, tmp_path: Path) -> None:
    program = tmp_path / "sleep"
    shutil.copy("/bin/sleep", program)
    daemon.start(str(program), "60")
    answer = daemon.http.put(f"files?path={program}&offset=0", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (409, "FILE_BUSY")
    put(daemon, program, b"another")


def test_what_a_link_points_to_is_replaced_not_the_link(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    put(daemon, tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_broken_upload_changes_nothing(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    head = f"PUT /api/v1/files?path={tmp_path}/file HTTP/1.1\r\nContent-Length: 100\r\n"
    with daemon.connect() as sock:
        sock.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\nhalf")
    assert daemon.exchange(
        head.replace("Content-Length: 100", "Transfer-Encoding: chunked").encode()
        + b"Longshore-Sandbox-Token: the-token\r\n\r\n3\r\nabc\r\nnonsense\r\n"
    ).startswith(b"HTTP/1.1 400 ")
    while os.listdir(tmp_path) != ["file"]:
        # The one that was hung up on may be tidied up after the other one's answer.
        assert daemon.ask("health")["ok"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("header", "status", "content", "shown"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=3-5", 206, b"345", "bytes 3-5/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=5-4", 200, b"0123456789", None),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_part_of_a_file_can_be_had(
    daemon: Daemon, tmp_path: Path, header: str, status: int, content: bytes, shown: str | None
) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    answer = get(daemon, tmp_path / "file", Range=header)
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == shown


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_part_that_does_not_exist_is_refused(daemon: Daemon, tmp_path: Path, header: str) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    answer = get(daemon, tmp_path / "file", Range=header)
    assert outcome(answer) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == "bytes */10"


def test_head_tells_the_size(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    answer = daemon.http.head("files", params={"path": str(tmp_path / "file")})
    assert (answer.status_code, answer.headers["content-length"]) == (200, "10")


def test_files_that_only_seem_empty_are_read(daemon: Daemon) -> None:
    assert get(daemon, f"/proc/{os.getpid()}/cmdline").content.endswith(b"\0")


def test_relative_paths_start_at_the_working_directory(daemon: Daemon) -> None:
    assert get(daemon, "pyproject.toml").content == Path("pyproject.toml").read_bytes()


def test_errors_of_reading(daemon: Daemon, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    assert outcome(get(daemon, tmp_path / "none")) == (404, "NOT_FOUND")
    assert get(daemon, tmp_path / "none").json()["error"] == f"File not found: {tmp_path}/none"
    assert outcome(get(daemon, tmp_path)) == (400, "IS_DIRECTORY")
    assert get(daemon, tmp_path).json()["error"] == (
        f"Path is a directory, not a file: {tmp_path}. "
        "Use /api/v1/files/list to list directory contents."
    )
    assert outcome(get(daemon, tmp_path / "pipe")) == (400, "NOT_A_FILE")
    assert outcome(get(daemon, "/dev/zero")) == (400, "NOT_A_FILE")
    assert outcome(get(daemon, tmp_path / "file" / "x")) == (400, "NOT_A_DIRECTORY")
    assert outcome(get(daemon, f"{tmp_path}/../x")) == (403, "PATH_TRAVERSAL")
    assert outcome(get(daemon, "a\0b")) == (400, "BAD_REQUEST")
    assert outcome(get(daemon, "x" * 300)) == (400, "BAD_REQUEST")
    assert outcome(daemon.http.get("files")) == (400, "BAD_REQUEST")


def test_errors_of_writing(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert outcome(put(daemon, tmp_path)) == (400, "IS_DIRECTORY")
    assert outcome(put(daemon, "/dev/null")) == (400, "NOT_A_FILE")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert outcome(put(daemon, tmp_path / "file" / "x"))[0] == 400
    assert outcome(put(daemon, f"{tmp_path}/../x")) == (403, "PATH_TRAVERSAL")
    assert outcome(put(daemon, "/proc/nothing"))[0] in (403, 404)


def test_names_with_two_dots_in_them_are_no_traversal(daemon: Daemon, tmp_path: Path) -> None:
    assert put(daemon, tmp_path / "a..b").status_code == 204


def test_a_file_is_deleted_and_a_directory_is_not(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path)

    def delete(path: Path) -> httpx.Response:
        return daemon.http.delete("files", params={"path": str(path)})

    assert delete(tmp_path / "file").status_code == 204
    assert outcome(delete(tmp_path / "file")) == (404, "NOT_FOUND")
    assert outcome(delete(tmp_path)) == (400, "IS_DIRECTORY")
    assert delete(tmp_path / "link").status_code == 204
    assert os.listdir(tmp_path) == []


def test_a_directory_is_listed_directories_first(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"12345")
    (tmp_path / "z").mkdir()
    (tmp_path / "a").symlink_to("/nowhere")
    answer = daemon.http.get("files/list", params={"path": str(tmp_path)}).json()
    assert answer["path"] == str(tmp_path)
    assert [(e["name"], e["is_dir"], e["size"]) for e in answer["entries"]] == [
        ("z", True, None),
        ("a", False, 8),
        ("b", False, 5),
    ]
    modified = int((tmp_path / "b").stat().st_mtime * 1000)
    assert abs(answer["entries"][2]["modified_at"] - modified) <= 1


def test_errors_of_listing(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    def show(path: str) -> httpx.Response:
        return daemon.http.get("files/list", params={"path": path})

    assert outcome(show(f"{tmp_path}/file")) == (400, "NOT_A_DIRECTORY")
    assert outcome(show(f"{tmp_path}/none")) == (404, "NOT_FOUND")
    assert outcome(show(f"{tmp_path}/..")) == (403, "PATH_TRAVERSAL")


class TestVersions:
    """Who goes on with a download must not put two versions of a file together."""

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_file_has_a_tag_that_is_its_own(
        self, daemon: Daemon, tmp_path: Path, method: str
    ) -> None:
        def tag() -> str:
            answer = daemon.http.request(method, "files", params={"path": str(file)})
            assert answer.status_code == 200
            return answer.headers["etag"]

        file, other = tmp_path / "file", tmp_path / "other"
        file.write_bytes(b"0123456789")
        first = tag()
        assert tag() == first
        assert re.fullmatch(r'"[0-9a-f-]+"', first)
        other.write_bytes(b"9876543210")
        os.utime(other, ns=(0, file.stat().st_mtime_ns))
        other.rename(file)
        replaced = tag()
        file.write_bytes(b"x" * 10)
        os.utime(file, ns=(0, 1))
        assert len({first, replaced, tag()}) == 3

    def test_a_part_is_sent_only_of_the_version_that_is_meant(
        self, daemon: Daemon, tmp_path: Path
    ) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"0123456789")
        tag = get(daemon, file).headers["etag"]
        part = get(daemon, file, **{"Range": "bytes=4-", "If-Range": tag})
        assert (part.status_code, part.content, part.headers["etag"]) == (206, b"456789", tag)
        file.unlink()
        file.write_bytes(b"another")
        for header in ("bytes=4-", "bytes=8-"):
            whole = get(daemon, file, **{"Range": header, "If-Range": tag})
            assert (whole.status_code, whole.content) == (200, b"another")
            assert whole.headers["etag"] != tag
        dated = {"Range": "bytes=4-", "If-Range": "Thu, 01 Jan 2026 00:00:00 GMT"}
        assert get(daemon, file, **dated).status_code == 200


def test_a_large_file_goes_to_the_disk_while_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that at its end there is little to wait for."""
    fsync, sizes = os.fsync, list[int]()

    def noting(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size >> 20)
        fsync(descriptor)

    async def main() -> None:
        await FileRoutes(Paths()).write(Exchange(Stream(theirs), head))

    monkeypatch.setattr(os, "fsync", noting)
    head = Head("PUT", f"/files?path={tmp_path}/file", {})
    head.length = 150 << 20
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(ours.sendall, bytes(head.length))
        Loop().run(main())
        sent.result()
        assert ours.recv(100).startswith(b"HTTP/1.1 204")
    assert sizes == [64, 128, 150]
