from __future__ import annotations

import hashlib
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest

Daemon = Any


def cat(daemon: Daemon, path: Path, data: bytes) -> int:
    """A finished process that has written these bytes."""
    path.write_bytes(data)
    pid = daemon.start("cat", str(path))["pid"]
    for _ in daemon.events(f"processes/{pid}/stderr/follow"):
        pass
    return pid


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n\r\n", ["a", "b", ""]),
        (b"\r\r\n", ["\r"]),
        (b"nul \0 here\n", ["nul \0 here"]),
        (b"\xff\xfe\n\x80 half \xc3", ["\ufffd\ufffd", "\ufffd half \ufffd"]),
        ("żółw 🐢 \u2028 x\n".encode(), ["żółw 🐢 \u2028 x"]),
        (b'"quoted" \\ \x1b[31m\n', ['"quoted" \\ \x1b[31m']),
    ],
)
def test_bytes_are_kept_and_lines_are_a_view_of_them(
    daemon: Daemon, tmp_path: Path, data: bytes, lines: list[str]
) -> None:
    pid = cat(daemon, tmp_path / "data", data)
    for kind in ("stdout", "output"):
        assert daemon.raw(pid, kind) == data
        shown = daemon.http.get(f"processes/{pid}/{kind}").json()
        assert shown == {"pid": pid, "lines": lines, "line_count": len(lines)}
    assert daemon.http.get(f"processes/{pid}/stderr").json()["lines"] == []
    followed = [event["line"] for event in daemon.follow(pid) if event]
    assert followed == lines


def test_a_line_may_have_any_length(daemon: Daemon, tmp_path: Path) -> None:
    text = ("ż" * 700_001)[:-1] + "é"
    data = b"short\n" + text.encode() + b"\r\nlast"
    pid = cat(daemon, tmp_path / "data", data)
    assert daemon.http.get(f"processes/{pid}/output").json()["lines"] == ["short", text, "last"]
    assert [event["line"] for event in daemon.follow(pid) if event] == ["short", text, "last"]


def test_64_mib_of_anything_come_out_as_they_went_in(daemon: Daemon, tmp_path: Path) -> None:
    data = os.urandom(64 << 20)
    pid = cat(daemon, tmp_path / "data", data)
    for kind in ("stdout", "output"):
        seen = hashlib.sha256()
        with daemon.http.stream("GET", f"processes/{pid}/{kind}?raw=1") as response:
            for piece in response.iter_raw():
                seen.update(piece)
        assert seen.digest() == hashlib.sha256(data).digest()


def test_raw_bytes_can_be_had_from_an_offset_on(daemon: Daemon) -> None:
    script = "printf aaa; sleep 0.05; printf bbb >&2; sleep 0.05; printf ccc"
    pid = daemon.start("sh", "-c", script)["pid"]
    daemon.follow(pid)
    for offset in range(11):
        assert daemon.raw(pid, "output", offset=offset) == b"aaabbbccc"[offset:]
        assert daemon.raw(pid, "stdout", offset=offset) == b"aaaccc"[offset:]
    answer = daemon.http.get(f"processes/{pid}/stdout?raw=1&offset=-1")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


def test_what_a_running_process_has_begun_to_say_is_shown(daemon: Daemon) -> None:
    pid = daemon.start("sh", "-c", "echo whole; printf part; read x", stdin_mode="pipe")["pid"]
    assert next(daemon.events(f"processes/{pid}/stdout/follow"))["line"] == "whole"
    while daemon.raw(pid) != b"whole\npart":
        pass
    assert daemon.http.get(f"processes/{pid}/stdout").json()["lines"] == ["whole", "part"]


def test_lines_bear_the_time_at_which_they_came(daemon: Daemon) -> None:
    pid = daemon.start("sh", "-c", "echo a; read x; echo b", stdin_mode="pipe")["pid"]
    assert next(daemon.events(f"processes/{pid}/stdout/follow"))["line"] == "a"
    between = time.time_ns() // 1_000_000
    daemon.http.post(f"processes/{pid}/stdin", content=b"\n")
    daemon.follow(pid)
    after = time.time_ns() // 1_000_000
    first, second, _ = daemon.follow(pid)
    assert first["timestamp"] <= between <= second["timestamp"] <= after


def test_the_end_of_a_process_is_told_after_all_it_wrote(daemon: Daemon) -> None:
    for _ in range(30):
        *lines, _ = daemon.run("sh", "-c", "seq 2000")[1:]
        assert len(lines) == 2000


def test_an_unknown_kind_of_output_is_not_found(daemon: Daemon) -> None:
    pid = daemon.start("true")["pid"]
    for path in ("stdin", "other", "other/follow"):
        answer = daemon.http.get(f"processes/{pid}/{path}")
        assert answer.status_code in (404, 405)


def test_json_is_well_formed_while_a_process_writes(daemon: Daemon) -> None:
    pid = daemon.start("timeout", "0.5", "yes", "text")["pid"]
    for _ in range(3):
        shown = json.loads(daemon.http.get(f"processes/{pid}/output").content)
        assert shown["line_count"] == len(shown["lines"])
    daemon.http.delete(f"processes/{pid}")


def test_output_that_no_disk_has_room_for_is_said_to_be_lost(daemon: Daemon) -> None:
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (100, 100))
    events = daemon.run("sh", "-c", "echo kept; sleep 0.01; head -c 1000 /dev/zero; exit 3")
    assert events[1]["line"] == "kept"
    lost = {"output_lost": True, "output_lost_from": 100}
    assert events[-1] == {"exit_code": 3, **lost}
    assert daemon.follow(events[0]["pid"])[-1] == lost
    assert len(daemon.raw(events[0]["pid"], "output")) == 100
    assert daemon.run("echo", "short")[-1] == {"exit_code": 0}
