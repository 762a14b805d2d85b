from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import fair_time

Daemon = Any
EVENT, STDOUT, STDERR = 0, 1, 2


def frames(daemon: Daemon, path: str, **body: Any) -> Iterator[tuple[int, bytes]]:
    method = "POST" if body else "GET"
    with daemon.http.stream(method, path, json=body or None) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "application/vnd.longshore.frames"
        buffer = bytearray()
        for piece in response.iter_raw():
            buffer += piece
            while len(buffer) >= 8:
                kind, length = struct.unpack_from(">BxxxI", buffer)
                if len(buffer) < 8 + length:
                    break
                yield kind, bytes(buffer[8 : 8 + length])
                del buffer[: 8 + length]
        assert not buffer


def run(daemon: Daemon, script: str, **fields: Any) -> list[tuple[int, bytes]]:
    body = {"command": "sh", "args": ["-c", script], **fields}
    return list(frames(daemon, "processes/frames", **body))


def test_a_process_is_started_and_followed_in_the_order_in_which_it_writes(daemon: Daemon) -> None:
    script = r"printf 'a\0\377'; sleep 0.05; printf b >&2; sleep 0.05; printf c; exit 4"
    (_, first), *output, (_, last) = run(daemon, script)
    assert set(json.loads(first)) == {"pid", "started_at"}
    assert output == [(STDOUT, b"a\0\xff"), (STDERR, b"b"), (STDOUT, b"c")]
    assert json.loads(last) == {"exit_code": 4}


def test_what_is_no_whole_line_comes_at_once(daemon: Daemon) -> None:
    pid = daemon.start("sh", "-c", "printf 'name? '; read name", stdin_mode="pipe")["pid"]
    assert next(frames(daemon, f"processes/{pid}/frames")) == (STDOUT, b"name? ")


def test_a_follower_begins_at_any_byte(daemon: Daemon) -> None:
    pid = json.loads(run(daemon, "printf aaa; sleep 0.05; printf bbb >&2")[0][1])["pid"]
    for offset in range(8):
        *output, last = frames(daemon, f"processes/{pid}/frames?offset={offset}")
        assert b"".join(data for _, data in output) == b"aaabbb"[offset:]
        assert last == (EVENT, b'{"exit_code":0}')


def test_bytes_before_the_offset_are_skipped_when_they_come_later(daemon: Daemon) -> None:
    pid = daemon.start("sh", "-c", "read x; printf 012; printf 345", stdin_mode="pipe")["pid"]
    follower = frames(daemon, f"processes/{pid}/frames?offset=4")
    daemon.http.post(f"processes/{pid}/stdin", content=b"\n")
    assert b"".join(data for kind, data in follower if kind == STDOUT) == b"45"


def test_a_follower_may_stay_for_so_long_only(daemon: Daemon) -> None:
    pid = daemon.start("sh", "-c", "printf a; sleep 100")["pid"]
    began, fair = time.monotonic(), fair_time()
    *_, last = frames(daemon, f"processes/{pid}/frames?seconds=0.3")
    assert json.loads(last[1]) == {"more": True}
    assert time.monotonic() - began > 0.25
    assert fair_time() - fair < 5


def test_who_wants_nothing_of_what_comes_hears_that_the_connection_stands(daemon: Daemon) -> None:
    pid = daemon.start("sh", "-c", "while :; do echo x; sleep 0.1; done")["pid"]
    began = fair_time()
    assert next(frames(daemon, f"processes/{pid}/frames?offset={10**17}")) == (EVENT, b"")
    assert fair_time() - began < 10


@pytest.mark.parametrize("offset", [0, 10**17])
def test_what_writes_without_end_holds_nobody_beyond_his_seconds(
    daemon: Daemon, offset: int
) -> None:
    pid = daemon.start("yes")["pid"]
    query = f"offset={offset}&seconds=0.3"
    *_, last = frames(daemon, f"processes/{pid}/frames?{query}")
    assert json.loads(last[1]) == {"more": True}


@pytest.mark.parametrize("query", ["offset=-1", "seconds=x", "seconds=-1", "seconds=1e3"])
def test_a_malformed_query_is_refused(daemon: Daemon, query: str) -> None:
    pid = daemon.start("true")["pid"]
    answer = daemon.http.get(f"processes/{pid}/frames?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


def test_64_mib_of_anything_come_as_they_went_in(daemon: Daemon, tmp_path: Path) -> None:
    data = os.urandom(64 << 20)
    (tmp_path / "data").write_bytes(data)
    seen = hashlib.sha256()
    for kind, piece in frames(
        daemon, "processes/frames", command="cat", args=[str(tmp_path / "data")]
    ):
        if kind == STDOUT:
            seen.update(piece)
    assert seen.digest() == hashlib.sha256(data).digest()


def test_a_child_that_holds_the_output_open_does_not_hold_up_the_end(daemon: Daemon) -> None:
    began = fair_time()
    *_, last = run(daemon, "sleep 100 & printf a")
    assert json.loads(last[1]) == {"exit_code": 0}
    assert fair_time() - began < 5


@pytest.mark.parametrize("path", ["processes", "processes/frames"])
def test_a_timeout_ends_the_whole_session_without_a_follower(
    daemon: Daemon, wait_gone: Callable[[int], None], path: str
) -> None:
    script = "sleep 100 & echo $!; sleep 100"
    body = {"command": "sh", "args": ["-c", script], "timeout": 0.3}
    if path == "processes":
        pid = daemon.http.post(path, json=body).json()["pid"]
        *output, (_, last) = frames(daemon, f"processes/{pid}/frames")
    else:
        _, *output, (_, last) = frames(daemon, path, **body)
        pid = None
    assert json.loads(last) == {"signal": 9, "timed_out": True}
    wait_gone(int(output[0][1]))
    if pid is not None:
        assert daemon.http.get(f"processes/{pid}").json()["timed_out"] is True
