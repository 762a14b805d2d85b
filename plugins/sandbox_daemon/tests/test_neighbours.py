"""What a neighbour can do to a sandbox that is not its own, and a page in a browser: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import SandboxDaemon

Daemon = Any
DOCUMENT = Path(__file__).parents[3] / "docs" / "sandbox-daemon.openapi.yaml"
ROUTES = [
    (method.upper(), path.replace("{stream}", "stdout").replace("{", "").replace("}", ""))
    for path, item in yaml.safe_load(DOCUMENT.read_text())["paths"].items()
    for method in item
    if method != "parameters"
]
TOKEN = "longshore-sandbox-token"
GUESSES = [
    {},
    {TOKEN: ""},
    {TOKEN: "wrong"},
    {TOKEN: "the-toke"},
    {TOKEN: "the-tokenn"},
    {"authorization": "Bearer the-token"},
    {"cookie": f"{TOKEN}=the-token"},
]


@pytest.fixture(scope="module")
def daemon(guest: SandboxDaemon, daemon_class: type[Daemon]) -> Iterator[Daemon]:
    """One for all of them: nothing that a stranger does may change it."""
    spec = ContainerSpec(id=ContainerId("c"), argv=(), env={"PATH": os.environ["PATH"]})
    launched = guest.launch(spec, Facts(mounts=False))
    daemon = daemon_class(launched.argv, launched.env)
    daemon.ask("go", token="the-token")
    yield daemon
    daemon.close()


@pytest.fixture
def stranger(daemon: Daemon) -> Any:
    """A client who has reached the socket, and has no token."""
    transport = httpx.HTTPTransport(uds=str(daemon.sockets / "http.sock"))
    with httpx.Client(transport=transport, base_url="http://sandbox/api/v1", timeout=20) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_but_health_wants_the_token(stranger: Any, method: str, path: str) -> None:
    for headers in GUESSES:
        for query in ("", "?token=the-token&path=/etc/passwd&port=22"):
            answer = stranger.request(method, path + query, headers=headers)
            if path == "/health":
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401
                assert method == "HEAD" or answer.json()["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/health/../info",
        "/api/v1/health/",
        "/api/v1//health",
        "/api/v1/health%2f..%2finfo",
        "/api/v1/health;/info",
        "//api/v1/info",
        "http://sandbox/api/v1/info",
        "/api/v1/pty/health",
    ],
)
def test_no_spelling_of_a_path_gets_past_the_token(daemon: Daemon, target: str) -> None:
    answer = daemon.exchange(f"GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"400", b"401"), answer


def test_two_tokens_are_not_one_of_them(daemon: Daemon) -> None:
    raw = b"GET /api/v1/info HTTP/1.1\r\nLongshore-Sandbox-Token: wrong\r\n"
    raw += b"Longshore-Sandbox-Token: the-token\r\nConnection: close\r\n\r\n"
    assert daemon.exchange(raw).split(b" ", 2)[1] in (b"400", b"401")


def test_a_terminals_token_is_not_enough(daemon: Daemon, stranger: Any) -> None:
    session = daemon.open_pty("sh")
    path = f"pty/{session['session_id']}/ws?token={session['token']}"
    assert stranger.get(path, headers={"x-pty-token": session["token"]}).status_code == 401


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_page_in_a_browser_is_given_nothing(stranger: Any, method: str, path: str) -> None:
    origin = {"origin": "https://evil.example"}
    asked = {**origin, "access-control-request-method": method}
    for answer in (
        stranger.options(path, headers=asked),
        stranger.request(method, path, headers=origin),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert stranger.options(path, headers=asked).status_code in (401, 405)


CHANGING = [(method, path) for method, path in ROUTES if method not in ("GET", "HEAD")]
PAGES = ["https://evil.example", "null", "http://8080-c.localhost", "http://sandbox"]


@pytest.mark.parametrize(("method", "path"), CHANGING)
@pytest.mark.parametrize("origin", PAGES)
def test_a_page_does_nothing_even_where_the_token_is_added_for_it(
    daemon: Daemon, method: str, path: str, origin: str
) -> None:
    answer = daemon.http.request(method, path.lstrip("/"), headers={"origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")


def test_a_page_that_was_admitted_may_act(daemon: Daemon) -> None:
    headers = {"origin": "https://app.example", "longshore-admitted-origin": "https://app.example"}
    body = {"command": "true"}
    assert daemon.http.post("processes", json=body, headers=headers).status_code == 201


def test_it_listens_on_no_port(daemon: Daemon) -> None:
    daemon.http.get("info")
    process = Path("/proc") / str(daemon.process.pid)
    ours = {os.readlink(entry) for entry in (process / "fd").iterdir()}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in (process / "net" / table).read_text().splitlines()[1:]:
            assert f"socket:[{line.split()[9]}]" not in ours


@pytest.mark.needs_root
@pytest.mark.parametrize("name", ["http.sock", "control.sock", "grpc.sock"])
def test_another_user_cannot_connect_even_where_the_directory_is_open(
    daemon: Daemon, name: str
) -> None:
    daemon.sockets.chmod(0o755)
    script = "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
    script += "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, str(daemon.sockets / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in done.stderr


def test_the_token_is_told_to_nobody(daemon: Daemon) -> None:
    """Neither in the environment of the daemon or of what it starts, nor in arguments or logs."""
    assert b"the-token" not in Path(f"/proc/{daemon.process.pid}/environ").read_bytes()
    assert b"the-token" not in Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()
    shown = "".join(event["line"] for event in daemon.run("env")[1:-1])
    assert "the-token" not in shown
    assert "the-token" not in daemon.log()
