"""Every curl line of the field's README, taken from it and run as it is written there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import System, free_port, system, until

SEEDS = Path(__file__).parents[3] / "shared" / "seeds"


def commands(text: str) -> list[str]:
    """The curl commands of all shell blocks, continuation lines joined, comments left out."""
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if "curl " in line and not line.startswith("#")]


@pytest.fixture(scope="module")
def readme(require) -> list[str]:
    found = sorted(SEEDS.glob("000_*.txt"))
    require(found, f"the field's README beside the checkout ({SEEDS.name}/000_*.txt)")
    return commands(found[0].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("readme")) as started:
        started.start_all()
        yield started


class Shell:
    """Runs a line of the README with this system's ports and the sandbox's id in it."""

    def __init__(self, whole: System) -> None:
        self.whole = whole
        self.inside = free_port()
        self.sandbox = "abc123"

    def run(self, line: str) -> tuple[int, str]:
        for written, here in (
            ("localhost:8900", f"127.0.0.1:{self.whole.http_port}"),
            ("localhost:8095", f"127.0.0.1:{self.whole.proxy_port}"),
            ("8080", str(self.inside)),
            ("abc123", self.sandbox),
        ):
            line = line.replace(written, here)
        command = line.replace("curl ", "curl -sS -w '\\n%{http_code}' ", 1)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


def test_every_curl_line_works_as_written(readme: list[str], whole: System) -> None:
    shell = Shell(whole)

    def take(pattern: str) -> str:
        line = next(line for line in readme if re.search(pattern, line))
        readme.remove(line)
        return line

    status, _ = shell.run(take(r"POST \S*/namespaces "))
    assert status == 200
    status, _ = shell.run(take(r"-F 'application="))
    assert status == 200

    create = r'-d \'\{"image": "python:3.14-slim"\}\''
    for _ in range(2):  # the README has it twice
        status, body = shell.run(take(create))
        assert status == 200
        assert json.loads(body)["status"] == "pending"
        shell.sandbox = json.loads(body)["sandbox_id"]

    get = take(r"^curl \S+/sandboxes/abc123\S+$")
    answer = until(lambda: running(shell, get), "the sandbox runs")
    assert answer["image_applied"] is False
    assert answer["image"] == "python:3.14-slim"

    for pattern in (r'Id: abc123" \S+/api/v1/processes$', r"Port: 9501"):
        assert shell.run(take(pattern)) == (200, '{"processes":[]}')

    status, body = shell.run(take(r"http\.server"))
    assert status == 201, body
    page = take(r"Port: 8080")
    until(lambda: "Directory listing" in shell.run(page)[1], "the server inside answers")

    status, body = shell.run(take(r"Id: nonexistent"))
    assert (status, json.loads(body)["error"]) == (404, "Sandbox not found")
    status, body = shell.run(take(r"^curl \S+8095/health$"))
    assert (status, json.loads(body)["error"]) == (400, "Missing Tensorlake-Sandbox-Id header")
    status, body = shell.run(take(r"RUST_LOG=debug curl"))
    assert status == 404
    assert readme == []


def running(shell: Shell, get: str) -> dict[str, object] | None:
    status, body = shell.run(get)
    assert status == 200, body
    answer: dict[str, object] = json.loads(body)
    assert answer["status"] in ("pending", "running"), body
    return answer if answer["status"] == "running" else None


def test_both_spellings_of_the_headers_route(whole: System) -> None:
    id_ = whole.create(image="python:3.14-slim")
    for name in ("Tensorlake-Sandbox-Id", "X-Tensorlake-Sandbox-Id", "x-tensorlake-sandbox-id"):
        answer = whole.proxy.get("/api/v1/health", headers={name: id_})
        assert answer.json() == {"healthy": True}


def test_a_port_where_nothing_listens_is_a_502(whole: System) -> None:
    id_ = whole.create()
    headers = {"Tensorlake-Sandbox-Id": id_, "Tensorlake-Sandbox-Port": str(free_port())}
    answer = whole.proxy.get("/", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (502, "CONNECTION_REFUSED")


def test_a_sandbox_that_does_not_run_is_a_503(whole: System) -> None:
    id_ = whole.create()
    pid = whole.spawn(id_, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    assert pid
    whole.delete(id_)
    until(lambda: whole.daemon(id_, "GET", "/api/v1/health").status_code != 200, "it stops")
    answer = whole.daemon(id_, "GET", "/api/v1/health")
    assert (answer.status_code, answer.json()["code"]) == (503, "SANDBOX_NOT_RUNNING")
    assert answer.json()["error"] == "Sandbox not running (state: stopping)"
