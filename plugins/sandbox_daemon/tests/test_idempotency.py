"""Starting something twice, and getting it once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

Daemon = Any
ROUTES = ["processes", "processes/run", "processes/frames"]


def start(daemon: Daemon, route: str, key: str, *command: str, **fields: Any) -> httpx.Response:
    body = {"command": command[0], "args": command[1:], **fields}
    return daemon.http.post(route, json=body, headers={"Idempotency-Key": key})


def pids(daemon: Daemon) -> list[int]:
    return [info["pid"] for info in daemon.http.get("processes").json()["processes"]]


def test_that_keys_are_heeded_is_told(daemon: Daemon) -> None:
    assert "Idempotency-Key" in daemon.http.get("health").headers["Longshore-Heeds"]


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_key_starts_it_once(daemon: Daemon, tmp_path: Path, route: str) -> None:
    script = f"echo started >> {tmp_path}/log; echo done"
    first = start(daemon, route, "one", "sh", "-c", script)
    daemon.follow(pids(daemon)[0])
    second = start(daemon, route, "one", "sh", "-c", script)
    assert first.status_code == second.status_code
    assert len(pids(daemon)) == 1
    assert (tmp_path / "log").read_text() == "started\n"
    if route != "processes":
        # All of it again, from the first byte on.
        assert second.content == first.content
        assert b"done" in second.content
    else:
        assert second.json()["pid"] == first.json()["pid"]
        assert second.json()["status"] == "exited"


def test_another_key_or_none_starts_another(daemon: Daemon) -> None:
    for key in ("one", "two"):
        start(daemon, "processes", key, "true")
    daemon.start("true")
    assert len(pids(daemon)) == 3


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_key_for_something_else_is_refused(daemon: Daemon, route: str) -> None:
    assert start(daemon, route, "one", "true").is_success
    answer = start(daemon, route, "one", "true", timeout=3)
    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")
    message = f"process {pids(daemon)[0]} was started under this key by another request"
    assert answer.json()["error"] == message


def test_its_own_name_is_not_taken(daemon: Daemon) -> None:
    first, second = (start(daemon, "processes", "k", "sleep", "100", name="web") for _ in "ab")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()


def restart(daemon: Daemon, pid: int | str, key: str) -> httpx.Response:
    return daemon.http.post(f"processes/{pid}/restart", headers={"Idempotency-Key": key})


def test_the_same_key_restarts_it_once(daemon: Daemon) -> None:
    first = start(daemon, "processes", "one", "sleep", "100", name="web").json()
    second, again = (restart(daemon, "web", "two") for _ in "ab")
    assert (second.status_code, again.status_code) == (200, 200)
    assert second.json()["pid"] == again.json()["pid"] != first["pid"]
    assert pids(daemon) == [first["pid"], second.json()["pid"]]
    answer = restart(daemon, first["pid"], "two")
    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")


def test_two_that_ask_for_a_restart_at_once_get_the_same(daemon: Daemon) -> None:
    # It takes its time to end: both wait for it.
    slow = "trap 'sleep 0.3; exit' TERM; echo ready; while :; do sleep 0.05; done"
    pid = start(daemon, "processes", "one", "sh", "-c", slow).json()["pid"]
    assert next(daemon.events(f"processes/{pid}/stdout/follow"))["line"] == "ready"
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(restart, daemon, pid, "two") for _ in "ab"]
        started = {answer.result().json()["pid"] for answer in both}
    assert len(started) == 1
    assert pids(daemon) == [pid, *started]


def open_terminal(daemon: Daemon, key: str, **fields: Any) -> httpx.Response:
    body = {"command": "cat", **fields}
    return daemon.http.post("pty", json=body, headers={"Idempotency-Key": key})


def test_the_same_key_opens_one_terminal(daemon: Daemon) -> None:
    first, again = (open_terminal(daemon, "one") for _ in "ab")
    assert (first.status_code, first.json()) == (201, again.json())
    assert len(daemon.http.get("pty").json()["sessions"]) == 1
    assert open_terminal(daemon, "two").json()["session_id"] != first.json()["session_id"]
    answer = open_terminal(daemon, "one", rows=50)
    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")


def test_one_that_was_restarted_is_another_that_nobody_asked_for_under_a_key(
    daemon: Daemon,
) -> None:
    first = start(daemon, "processes", "one", "true").json()
    daemon.http.post(f"processes/{first['pid']}/restart")
    assert start(daemon, "processes", "one", "true").json()["pid"] == first["pid"]


def test_what_could_not_be_started_is_tried_again(daemon: Daemon, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    assert start(daemon, "processes", "one", str(tool)).json()["code"] == "SPAWN_FAILED"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert start(daemon, "processes", "one", str(tool)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", b"\xc5\xbc"])
def test_what_is_no_key_is_refused(daemon: Daemon, key: Any) -> None:
    answer = start(daemon, "processes", key, "true")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    message = "Idempotency-Key: up to 255 printable ASCII characters are wanted"
    assert answer.json()["error"] == message
    assert pids(daemon) == []
