from __future__ import annotations

import json
from typing import Any

import pytest

Daemon = Any

TOKEN = b"Longshore-Sandbox-Token: the-token\r\n"


def body_of(answer: bytes) -> dict[str, Any]:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def test_health_needs_no_token_and_no_release(held: Daemon) -> None:
    answer = held.http.get("health", headers={"Longshore-Sandbox-Token": ""})
    assert (answer.status_code, answer.json()) == (200, {"healthy": True})


def test_info_counts_processes(daemon: Daemon) -> None:
    daemon.start("sleep", "100")
    daemon.run("true")
    info = daemon.http.get("info").json()
    assert (info["running_processes"], info["total_processes"]) == (1, 2)
    assert info["version"] == "0.1.0"
    assert info["uptime_secs"] >= 0


def test_all_but_health_waits_for_the_release(held: Daemon) -> None:
    answer = held.http.get("info")
    assert (answer.status_code, answer.json()["code"]) == (503, "NOT_RELEASED")
    assert answer.json()["retryable"] is True


@pytest.mark.parametrize("token", ["", "the-token ", "x", "the-token2", "ż"])
def test_a_wrong_token_is_refused(daemon: Daemon, token: str) -> None:
    headers = {"Longshore-Sandbox-Token": token.encode().strip() + b"\xff" if token else b""}
    answer = daemon.http.get("info", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")


def test_without_the_token_nothing_is_told_about_routes(daemon: Daemon) -> None:
    for path in ("nothing", "health/x", "processes/1"):
        headers = {"Longshore-Sandbox-Token": "wrong"}
        assert daemon.http.get(path, headers=headers).status_code == 401


def test_an_error_has_one_shape(daemon: Daemon) -> None:
    answer = daemon.http.get("nothing", headers={"X-Request-Id": "mine"})
    message = "there is nothing at /api/v1/nothing"
    assert answer.status_code == 404
    assert answer.json() == {
        "error": message,
        "message": message,
        "code": "NOT_FOUND",
        "retryable": False,
        "request_id": "mine",
    }
    assert answer.headers["x-request-id"] == "mine"


def test_a_wrong_method_is_told_the_right_ones(daemon: Daemon) -> None:
    answer = daemon.http.patch("processes")
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST, GET"


def test_nothing_is_said_of_other_origins(daemon: Daemon) -> None:
    answer = daemon.http.get("health", headers={"Origin": "http://evil"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET / HTTP/2\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED"),
        (b"GET / HTTP/1.1\r\nbroken\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET / HTTP/1.1\r\na : x\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET / HTTP/1.1\r\na: x\nb: y\r\n\r\n", 400, "BAD_REQUEST"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "BAD_REQUEST"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, "BAD_REQUEST"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "BAD_REQUEST",
        ),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "UNSUPPORTED_CAPABILITY"),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 70000 + b"\r\n\r\n", 431, "HEAD_TOO_LARGE"),
        (b"x" * 70000, 431, "HEAD_TOO_LARGE"),
    ],
)
def test_what_is_no_request_is_answered_in_json_and_hung_up_on(
    daemon: Daemon, raw: bytes, status: int, code: str
) -> None:
    answer = daemon.exchange(raw)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert body_of(answer)["code"] == code
    assert daemon.http.get("health").status_code == 200


def test_malformed_json_is_a_bad_request(daemon: Daemon) -> None:
    for text in (b"", b"{", b"[1,]", b'{"a":1}x', b"\xff", b"NaN", b"[" * 100_000):
        answer = daemon.http.post("processes", content=text)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_JSON")
        assert answer.json()["error"].startswith("the body is not JSON: ")


def test_json_without_end_is_cut_short(daemon: Daemon) -> None:
    answer = daemon.http.post("processes", content=b" " * 5_000_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")


def test_a_connection_carries_many_requests_also_at_once(daemon: Daemon) -> None:
    request = b"GET /api/v1/info HTTP/1.1\r\n" + TOKEN
    last = b"Connection: close\r\n\r\n"
    answer = daemon.exchange((request + b"\r\n") * 3 + request + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 4


def test_bodies_are_read_to_their_end_even_if_nobody_wants_them(daemon: Daemon) -> None:
    unwanted = b"POST /api/v1/nothing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    unwanted += TOKEN + b"\r\n"
    body = b"3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    wanted = b"GET /api/v1/health HTTP/1.1\r\nConnection: close\r\n\r\n"
    answer = daemon.exchange(unwanted + body + wanted)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b'{"healthy":true}')


def test_an_early_answer_to_a_large_body_can_be_read(daemon: Daemon) -> None:
    head = b"POST /api/v1/nothing HTTP/1.1\r\nContent-Length: 3000000\r\n"
    answer = daemon.exchange(head + TOKEN + b"\r\n" + bytes(3_000_000))
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_old_clients_get_bodies_that_end_with_the_connection(daemon: Daemon) -> None:
    pid = daemon.start("echo", "x")["pid"]
    daemon.follow(pid)
    target = b"/api/v1/processes/%d/stdout" % pid
    answer = daemon.exchange(b"GET " + target + b" HTTP/1.0\r\n" + TOKEN + b"\r\n")
    assert b"chunked" not in answer
    assert body_of(answer) == {"pid": pid, "lines": ["x"], "line_count": 1}


def test_a_client_that_asks_first_is_told_to_go_on(daemon: Daemon, tmp_path: Any) -> None:
    head = b"PUT /api/v1/files?path=%b HTTP/1.1\r\n" % str(tmp_path / "f").encode()
    expect = b"Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with daemon.connect() as sock:
        sock.sendall(head + TOKEN + expect)
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert sock.recv(1000).startswith(b"HTTP/1.1 204 No Content\r\n")
    assert (tmp_path / "f").read_bytes() == b"abc"


def test_a_client_that_asks_first_is_told_no(daemon: Daemon) -> None:
    head = (
        b"PUT /api/v1/files?path=/x HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = daemon.exchange(head)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close\r\n" in answer


def test_the_sockets_are_for_their_owner_only(daemon: Daemon) -> None:
    for name in ("http.sock", "control.sock"):
        assert (daemon.sockets / name).stat().st_mode & 0o777 == 0o600
