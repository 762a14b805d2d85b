"""A whole system for tests: server, worker and proxy as the processes that production runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from tests.machine import fair_time

AnswerT = TypeVar("AnswerT")
DEADLINE = 30.0
PLENTY = {"cpu_count": 256, "memory_bytes": 1 << 40, "disk_bytes": 1 << 44}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], AnswerT], what: str, seconds: float = DEADLINE) -> AnswerT:
    """Ask until the answer is true: for what another process does, and tells nobody of."""
    deadline = fair_time() + seconds
    while not (answer := condition()):
        assert fair_time() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return answer


def start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat: with the pid, it names one process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def marked_processes(owner: str) -> list[int]:
    """Every process that carries the owner's mark in its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if owner.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@dataclass
class System:
    """Start and stop its parts at will; everything it started is gone when it is left."""

    directory: Path
    worker_settings: dict[str, Any] = field(default_factory=dict)
    server_settings: dict[str, Any] = field(default_factory=dict)
    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    proxy_port: int = field(default_factory=free_port)
    monitoring_port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    owner: str = field(default_factory=lambda: f"w-{uuid4()}")

    def __post_init__(self) -> None:
        self.state_dir = self.directory / "state"
        self.worker_config = self.directory / "worker.yaml"
        self.server_config = self.directory / "server.yaml"
        worker = {
            "executor_id": self.owner,
            "server_addr": f"http://127.0.0.1:{self.grpc_port}",
            "state_dir": str(self.state_dir),
            "http_proxy": {
                "port": self.proxy_port,
                "listen_addr": "127.0.0.1",
                "advertise_address": f"127.0.0.1:{self.proxy_port}",
                **self.worker_settings.get("http_proxy", {}),
            },
            "monitoring": {"port": self.monitoring_port, "listen_addr": "127.0.0.1"},
            "resource_overrides": {
                "cpu_count": 256,
                "memory_bytes": 1 << 40,
                "disk_bytes": 1 << 44,
            },
            **{key: value for key, value in self.worker_settings.items() if key != "http_proxy"},
        }
        server = {
            "listen_addr": f"127.0.0.1:{self.http_port}",
            "listen_addr_grpc": f"127.0.0.1:{self.grpc_port}",
            "state_store_path": str(self.directory / "server"),
            "blob_storage": {"path": f"file://{self.directory}/blobs"},
            **self.server_settings,
        }
        # JSON is YAML, too.
        self.worker_config.write_text(json.dumps(worker), encoding="utf-8")
        self.server_config.write_text(json.dumps(server), encoding="utf-8")
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.http_port}", timeout=4 * DEADLINE)
        self.proxy = httpx.Client(
            base_url=f"http://127.0.0.1:{self.proxy_port}", timeout=4 * DEADLINE
        )

    def start(self, name: str, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        config = self.server_config if name == "server" else self.worker_config
        argv = command or [sys.executable, "-m", "longshore", name, "--config", str(config)]
        if name == "worker" and command is None:
            argv.append("--no-proxy")
        log = (self.directory / f"{name}.log").open("ab")
        with log:
            self.running[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **self.environ},
                start_new_session=True,
            )
        return self.running[name]

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        process = self.running.pop(name)
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()

    def start_all(self) -> None:
        for name in ("server", "proxy", "worker"):
            self.start(name)
        self.wait_ready()

    def wait_ready(self) -> None:
        until(lambda: self.answers(self.api, "/healthz"), "the server answers")
        until(lambda: self.answers(self.proxy, "/", 400), "the proxy answers")
        until(self.registered, "the worker registers")

    def registered(self) -> bool:
        url = f"http://127.0.0.1:{self.monitoring_port}/monitoring/health"
        return self.answers(httpx, url)

    def answers(self, client: Any, url: str, status: int = 200) -> bool:
        try:
            return client.get(url).status_code == status
        except httpx.TransportError:
            return False

    def create(self, *, wait: bool = True, **body: Any) -> str:
        answer = self.api.post(
            "/v1/namespaces/default/sandboxes", params={"wait": str(wait).lower()}, json=body
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["sandbox_id"])

    def sandbox(self, id_: str) -> dict[str, Any]:
        answer = self.api.get(f"/v1/namespaces/default/sandboxes/{id_}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def delete(self, id_: str) -> None:
        answer = self.api.delete(f"/v1/namespaces/default/sandboxes/{id_}")
        assert answer.status_code == 200, answer.text

    def daemon(self, id_: str, method: str, path: str, **kwargs: Any) -> httpx.Response:
        headers = {"Tensorlake-Sandbox-Id": id_, **kwargs.pop("headers", {})}
        return self.proxy.request(method, path, headers=headers, **kwargs)

    def spawn(self, id_: str, *argv: str) -> int:
        body = {"command": argv[0], "args": list(argv[1:])}
        answer = self.daemon(id_, "POST", "/api/v1/processes", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["pid"])

    def logs(self) -> str:
        return "\n".join(
            f"== {file.name}\n{file.read_text(errors='replace')[-6000:]}"
            for file in sorted(self.directory.glob("*.log"))
        )

    def close(self) -> None:
        self.api.close()
        self.proxy.close()
        for name in list(self.running):
            self.stop(name, signal.SIGKILL)
        for pid in marked_processes(self.owner):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def system(
    directory: Path, *, server: dict[str, Any] | None = None, **settings: Any
) -> Iterator[System]:
    """A system, none of it started; what went wrong in it is printed with a failing test."""
    whole = System(directory, worker_settings=settings, server_settings=server or {})
    try:
        yield whole
    except BaseException:
        print(whole.logs())  # noqa: T201  # read with the failure
        raise
    finally:
        whole.close()
