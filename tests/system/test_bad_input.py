"""A person's mistake gets one clear typed error, never a traceback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import System, system, until


def longshore(*args: str, seconds: float = 30) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "longshore", *args], capture_output=True, text=True, timeout=seconds
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["worker", "proxy", "server"])
def test_malformed_yaml_is_one_line_with_its_place(command: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("driver: {type: fork_exec\nenv: x", encoding="utf-8")
    status, said = longshore(command, "--config", str(file))
    assert status == 2
    assert said.startswith(f"error: {file}:2:")
    assert said.count("\n") == 1


def test_an_unknown_driver_is_answered_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(f"driver: {{type: fork_exc}}\nstate_dir: {tmp_path}/s", encoding="utf-8")
    status, said = longshore("worker", "--config", str(file))
    assert status == 2
    assert said.startswith(
        "error: driver.type: no plugin named 'fork_exc'; did you mean 'fork_exec'? (installed: "
    )


@pytest.mark.parametrize(
    ("command", "document", "path"),
    [
        ("worker", {"monitoring": {"port": 0, "listen_addr": "127.0.0.1"}}, "monitoring.port"),
        ("proxy", {"http_proxy": {"port": 0, "listen_addr": "127.0.0.1"}}, "http_proxy.port"),
        (
            "server",
            {"listen_addr": "127.0.0.1:0", "listen_addr_grpc": "127.0.0.1:0"},
            "listen_addr",
        ),
        (
            "server",
            {"listen_addr_grpc": "127.0.0.1:0", "listen_addr": "127.0.0.1:0"},
            "listen_addr_grpc",
        ),
    ],
)
def test_a_port_in_use_is_named(command: str, document: dict, path: str, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        key, _, inner = path.partition(".")
        if inner:
            document[key][inner] = port
        else:
            document[key] = f"127.0.0.1:{port}"
        place = "state_store_path" if command == "server" else "state_dir"
        document[place] = str(tmp_path / "s")
        file = tmp_path / "c.yaml"
        file.write_text(json.dumps(document), encoding="utf-8")
        status, said = longshore(command, "--config", str(file))
    assert status == 2
    assert said.startswith(f"error: {path}: "), said
    assert str(port) in said
    assert said.count("\n") == 1


def test_an_unreachable_server_is_said_and_waited_for(tmp_path: Path) -> None:
    with system(tmp_path) as whole:
        worker = whole.start("worker")
        log = tmp_path / "worker.log"
        until(lambda: "Heartbeat failed; trying again" in log.read_text(), "it says so")
        assert "UNAVAILABLE" in log.read_text() or "DEADLINE_EXCEEDED" in log.read_text()
        assert worker.poll() is None
        assert "Traceback" not in log.read_text()
        whole.start("server")
        until(whole.registered, "the worker registers when the server comes")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("bad")) as started:
        started.start_all()
        yield started


BODY = "/v1/namespaces/default/sandboxes"


@pytest.mark.parametrize(
    ("request_", "status", "code", "names"),
    [
        (
            {"content": b"{", "headers": {"content-type": "application/json"}},
            400,
            "INVALID_JSON",
            "",
        ),
        ({"json": {"timeout_secs": "soon"}}, 422, "INVALID_REQUEST", "timeout_secs"),
        ({"json": {"resources": {"cpus": "many"}}}, 422, "INVALID_REQUEST", "resources.cpus"),
        ({"json": ["a"]}, 422, "INVALID_REQUEST", ""),
    ],
)
def test_a_bad_body_is_answered_with_what_is_wrong(
    whole: System, request_: dict, status: int, code: str, names: str
) -> None:
    answer = whole.api.post(BODY, **request_)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert names in body["message"]
    assert set(body) >= {"error", "message", "code", "retryable", "request_id"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{BODY}/unknown", 404, "SANDBOX_NOT_FOUND"),
        ("DELETE", f"{BODY}/unknown", 404, "SANDBOX_NOT_FOUND"),
        ("GET", "/v1/namespaces/default/applications/unknown", 404, "APPLICATION_NOT_FOUND"),
        (
            "POST",
            "/v1/namespaces/default/applications/unknown/sandboxes",
            404,
            "APPLICATION_NOT_FOUND",
        ),
        ("GET", "/nowhere", 404, "ROUTE_NOT_FOUND"),
        ("PATCH", "/namespaces", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_unknown_things_are_named(
    whole: System, method: str, path: str, status: int, code: str
) -> None:
    answer = whole.api.request(method, path, json={} if method == "POST" else None)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("port_of", ["http_port", "proxy_port"])
def test_ten_megabytes_of_headers_are_refused(whole: System, port_of: str) -> None:
    with socket.create_connection(("127.0.0.1", getattr(whole, port_of)), timeout=20) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        line = b"X-Pad: " + b"a" * 8000 + b"\r\n"
        try:
            for _ in range(10 * 1024 * 1024 // len(line)):
                sock.sendall(line)
            sock.sendall(b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up, having read enough
        answer = read_answer(sock)
    assert answer.split(b" ")[1] in (b"400", b"431"), answer[:200]
    assert whole.api.get("/healthz").status_code == 200


def read_answer(sock: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := sock.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass  # after the answer: what we sent was not read to its end
    return received


def test_a_policy_that_nobody_enforces_is_refused(whole: System) -> None:
    answer = whole.api.post(
        BODY, params={"wait": "true"}, json={"network": {"allow_internet_access": False}}
    )
    assert answer.json()["code"] == "SANDBOX_FAILED"
    assert "the network `open` enforces none" in answer.json()["error"]
