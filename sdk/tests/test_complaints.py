"""What `longshore sandbox` says when something is wrong, to a server that answers as it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sdk.tests.world import ENDED_WELL, INFO, event, frame

PAGE = b"<html>\r\n<title>404</title>\x1b[31m\r\n</html>\r\n"
ONE = "/v1/namespaces/default/sandboxes/sb"


class Server(ThreadingHTTPServer):
    """Server, proxy and daemon at one address."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.says("GET", ONE, 200, {**INFO, "sandbox_url": self.url})
        self.says("GET", "/api/v1/health", 200, {"healthy": True})

    def says(self, method: str, path: str, status: int, body: object) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[method, path] = status, raw

    def complains(self, method: str, path: str, status: int, code: str, message: str) -> None:
        body = {"error": message, "message": message, "code": code, "retryable": False}
        self.says(method, path, status, {**body, "request_id": "r"})

    def runs(self, *, command: str, status: str) -> None:
        process = {"pid": 7, "command": command, "status": status, "stdin_writable": False}
        processes = [{**process, "args": [], "started_at": 1}]
        self.says("GET", "/api/v1/processes", 200, {"processes": processes})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        path = self.path.partition("?")[0]
        status, body = self.server.answers.get((self.command, path), (404, PAGE))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # their names are http.server's

    def log_message(self, format: str, *args: object) -> None:  # as above
        del format, args


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def cli(server: Server, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "longshore", "sandbox", *words],
        env={**os.environ, "LONGSHORE_API_URL": server.url, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (("exec", "sb", ""), {}, "the command is empty"),
        (("exec", "-t", "sb", ""), {}, "the command is empty"),
        (("exec", "--timeout", "nan", "sb", "true"), {}, "seconds above 0 are wanted, not nan"),
        (("ls",), {"LONGSHORE_API_KEY": "ключ"}, "it has characters beyond ASCII"),
    ],
)
def test_a_value_that_cannot_be_taken_is_one_line(
    server: Server, words: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    done = cli(server, *words, **env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_a_page_in_front_is_shown_in_one_line_that_drives_no_terminal(server: Server) -> None:
    done = cli(server, "ls")
    assert done.stderr == (
        "error: <html> <title>404</title>\\x1b[31m </html>;"
        " that is no answer of Longshore's: check --api-url, and what is in front of it\n"
    )


def test_a_name_that_the_sandbox_has_chosen_drives_no_terminal(server: Server) -> None:
    message = "File not found: a\nb\x1b]0;owned\x07\x9b\u202e"
    server.complains("GET", "/api/v1/files/stat", 404, "NOT_FOUND", message)
    done = cli(server, "cp", "sb:a", "b")
    assert (done.returncode, done.stderr) == (
        3,
        "error: File not found: a\\nb\\x1b]0;owned\\x07\\x9b\\u202e;"
        " see what is there: `longshore sandbox exec sb ls -la`\n",
    )
    server.runs(command="\x1b[2J", status="running")
    shown = cli(server, "show", "sb").stdout
    assert ("\\x1b[2J" in shown, "\x1b" in shown) == (True, False)


@pytest.mark.parametrize(
    ("workdir", "status", "said"),
    [
        (["-w", "/nope"], 126, "error: there is no directory '/nope' to run it in;"),
        (["-w", "/there"], 127, "error: cannot start 'x' in"),
        ([], 127, "error: cannot start 'x' in"),
    ],
)
def test_a_directory_that_is_missing_is_told_from_a_command_that_is(
    server: Server, workdir: list[str], status: int, said: str
) -> None:
    message = "cannot start 'x' in '/nope': No such file or directory"
    server.complains("POST", "/api/v1/processes", 400, "SPAWN_FAILED", message)
    found = {"type": "directory", "size": 0, "mode": "755", "uid": 0, "gid": 0, "links": 1}
    times = {"modified_at": 1, "accessed_at": 1, "changed_at": 1}
    if "/nope" in workdir:
        server.complains("GET", "/api/v1/files/stat", 404, "NOT_FOUND", "File not found: /nope")
    else:
        server.says("GET", "/api/v1/files/stat", 200, {"path": "/there", **found, **times})
    done = cli(server, "exec", *workdir, "sb", "x")
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert done.stderr.startswith(said)
    assert "; see what the sandbox has: `longshore sandbox exec sb ls /`" in done.stderr


def test_output_that_the_sandbox_had_no_room_for_is_warned_of(server: Server) -> None:
    lost = frame(1, b"half") + event(exit_code=0, output_lost=True)
    server.says("GET", "/api/v1/processes/7/frames", 200, lost)
    server.runs(command="x", status="exited")
    done = cli(server, "logs", "sb")
    assert (done.returncode, done.stdout) == (0, "half"), done.stderr
    assert done.stderr.startswith("warning: the last of the output is gone: the sandbox's disk is")
    server.says("GET", "/api/v1/processes/7/frames", 200, frame(1, b"all") + ENDED_WELL)
    assert cli(server, "logs", "sb").stderr == ""


def test_shells_complete_names_as_well_as_ids(server: Server) -> None:
    named = {**INFO, "id": "abc", "name": "crate"}
    server.says("GET", "/v1/namespaces/default/sandboxes", 200, {"sandboxes": [named, INFO]})
    for typed, found in (("cr", "crate"), ("ab", "abc"), ("s", "sb")):
        asked = {"COMP_WORDS": f"longshore sandbox rm {typed}", "COMP_CWORD": "3"}
        done = cli(server, _LONGSHORE_COMPLETE="bash_complete", **asked)
        assert done.stdout == f"plain,{found}\n"
