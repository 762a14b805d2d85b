"""`longshore up`: one command gives the system, and one Ctrl-C takes all of it away."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.machine import fair_time
from tests.system.harness import free_port, until

STOP_SECONDS = 10


class Up:
    def __init__(self, directory: Path) -> None:
        self.ports = {name: free_port() for name in ("http", "grpc", "proxy", "monitoring")}
        flags = [f"--port-{name}={port}" for name, port in self.ports.items()]
        self.log = directory / "up.log"
        argv = [sys.executable, "-m", "longshore", "up", "--data-dir", str(directory / "data")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, *flags], stdout=log, stderr=log, start_new_session=True
            )
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.ports['http']}", timeout=30)
        self.mark = str(directory).encode()

    def family(self) -> list[int]:
        """Every process that has this test's directory in its arguments or environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in (os.getpid(), self.process.pid):
                continue
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if self.mark in text:
                found.append(int(entry.name))
        return found

    def is_up(self) -> bool:
        return b"is up, after" in self.log.read_bytes()

    def create(self) -> str:
        answer = self.api.post("/sandboxes", params={"wait": "true"}, json={})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["sandbox_id"])

    def spawn(self, sandbox: str) -> None:
        answer = httpx.post(
            f"http://127.0.0.1:{self.ports['proxy']}/api/v1/processes",
            headers={"Tensorlake-Sandbox-Id": sandbox},
            json={"command": "sh", "args": ["-c", "trap '' TERM; setsid sleep 1000 & wait"]},
        )
        assert answer.status_code == 201, answer.text


@contextmanager
def up(directory: Path) -> Iterator[Up]:
    started = Up(directory)
    try:
        until(started.is_up, "it is up")
        yield started
    except BaseException:
        print(started.log.read_text(errors="replace")[-8000:])  # noqa: T201  # read with the failure
        raise
    finally:
        started.api.close()
        started.process.kill()
        started.process.wait()
        for pid in started.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_takes_seconds_and_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with up(tmp_path) as system:
        system.create()
        began = fair_time()
        system.process.send_signal(number)
        assert system.process.wait(10 * STOP_SECONDS) == 0
        assert fair_time() - began < STOP_SECONDS
        until(lambda: not system.family(), "no process is left")


@pytest.mark.timeout(180)
def test_a_killed_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    with up(tmp_path) as system:
        system.spawn(system.create())
        assert len(system.family()) >= 3
        system.process.kill()
        until(lambda: not system.family(), "no process is left", seconds=40)


@pytest.mark.timeout(180)
def test_a_killed_worker_is_started_again_and_finds_its_sandboxes(tmp_path: Path) -> None:
    with up(tmp_path) as system:
        sandbox = system.create()
        (worker,) = [pid for pid in system.family() if b"\0worker\0" in cmdline(pid)]
        os.kill(worker, signal.SIGKILL)
        health = f"http://127.0.0.1:{system.ports['monitoring']}/monitoring/health"
        until(lambda: restarted(system, worker) and answers(health), "another worker is up")
        answer = httpx.get(
            f"http://127.0.0.1:{system.ports['proxy']}/api/v1/health",
            headers={"Tensorlake-Sandbox-Id": sandbox},
        )
        assert answer.json() == {"healthy": True}
        assert system.api.get(f"/sandboxes/{sandbox}").json()["status"] == "running"


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def restarted(system: Up, dead: int) -> bool:
    return any(b"\0worker\0" in cmdline(pid) for pid in system.family() if pid != dead)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
