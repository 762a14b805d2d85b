from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import Patience, PortableRuntime, SandboxDaemon, assemble

_spec = importlib.util.spec_from_file_location(
    "websocket_client", Path(__file__).with_name("websocket_client.py")
)
assert _spec is not None
assert _spec.loader is not None
websocket_client = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(websocket_client)

TOKEN = "the-token"
PATIENCE = Patience(start=10, call=5, grace=5)


class Daemon:
    """A daemon as a driver would start it, and its two sockets."""

    def __init__(self, argv: tuple[str, ...], env: Mapping[str, str], **options: Any) -> None:
        self._scratch = contextlib.ExitStack()
        self._stderr = os.memfd_create("stderr")
        self._scratch.callback(os.close, self._stderr)
        self.sockets = Path(options.pop("sockets", None) or self._make_directory())
        self.process = subprocess.Popen(
            argv,
            env={"LONGSHORE_SOCKETS": str(self.sockets), **env},
            stderr=self._stderr,
            **options,
        )
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.sockets / "http.sock")),
            base_url="http://sandbox/api/v1/",
            headers={"Longshore-Sandbox-Token": TOKEN},
            timeout=20,
        )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                with self.connect("control.sock"):
                    return
            except OSError:
                assert self.process.poll() is None, self.log()
                assert time.monotonic() < deadline, "the daemon does not listen"
                time.sleep(0.001)

    def connect(self, name: str = "http.sock") -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        try:
            sock.connect(str(self.sockets / name))
        except BaseException:
            sock.close()
            raise
        return sock

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        with self.connect("control.sock") as sock:
            sock.sendall(json.dumps({"v": 1, "op": op, **fields}).encode() + b"\n")
            return json.loads(sock.makefile("rb").readline())

    def exchange(self, raw: bytes) -> bytes:
        """Send bytes to the API, and read until the daemon hangs up."""
        with self.connect() as sock:
            sock.sendall(raw)
            received = bytearray()
            while data := sock.recv(65536):
                received += data
            return bytes(received)

    def start(self, *command: str, **fields: Any) -> dict[str, Any]:
        body = {"command": command[0], "args": command[1:], **fields}
        response = self.http.post("processes", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    def follow(self, pid: int, kind: str = "output") -> list[dict[str, Any]]:
        """The output of a process, to its end."""
        return list(self.events(f"processes/{pid}/{kind}/follow"))

    def events(self, path: str, **body: Any) -> Iterator[dict[str, Any]]:
        method = "POST" if body else "GET"
        with self.http.stream(method, path, json=body or None) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream"
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def run(self, *command: str, **fields: Any) -> list[dict[str, Any]]:
        body = {"command": command[0], "args": command[1:], **fields}
        return list(self.events("processes/run", **body))

    def raw(self, pid: int, kind: str = "stdout", **query: Any) -> bytes:
        response = self.http.get(f"processes/{pid}/{kind}", params={"raw": 1, **query})
        assert response.headers["content-type"] == "application/octet-stream"
        return response.content

    def websocket(self, target: str, **headers: Any) -> Any:
        return websocket_client.WebSocket(self.connect, f"/api/v1/{target}", **headers)

    def open_pty(self, *command: str, **fields: Any) -> dict[str, str]:
        body = {"command": command[0], "args": command[1:], **fields}
        response = self.http.post("pty", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    def attach(self, session: dict[str, str]) -> Any:
        return self.websocket(f"pty/{session['session_id']}/ws?token={session['token']}")

    def _make_directory(self) -> str:
        return self._scratch.enter_context(tempfile.TemporaryDirectory(prefix="longshore-test-"))

    def log(self) -> str:
        return os.pread(self._stderr, 1 << 20, 0).decode()

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            try:
                self.ask("stop", grace_seconds=0.05)
            except OSError:
                self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._scratch.close()


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> PortableRuntime:
    return assemble(tmp_path_factory.mktemp("runtimes"))


@pytest.fixture(scope="session")
def guest(runtime: PortableRuntime) -> SandboxDaemon:
    return SandboxDaemon(runtime, PATIENCE)


@pytest.fixture(scope="session")
def daemon_class() -> type[Daemon]:
    return Daemon


@pytest.fixture
def start() -> Iterator[Callable[..., Daemon]]:
    """Starts daemons with whatever it is given, and ends them after the test."""
    with contextlib.ExitStack() as stack:

        def begin(argv: tuple[str, ...], env: Mapping[str, str], **options: Any) -> Daemon:
            daemon = Daemon(argv, env, **options)
            stack.callback(daemon.close)
            return daemon

        yield begin


@pytest.fixture
def launch(guest: SandboxDaemon, start: Callable[..., Daemon]) -> Callable[..., Daemon]:
    """Starts held daemons, with the environment of a container in which `env` was asked for."""

    def begin(**env: str) -> Daemon:
        asked = {"PATH": os.environ["PATH"], "HOME": "/root", **env}
        spec = ContainerSpec(id=ContainerId("c"), argv=(), env=asked)
        launched = guest.launch(spec, Facts(mounts=False))
        return start(launched.argv, launched.env)

    return begin


@pytest.fixture
def held(launch: Callable[..., Daemon]) -> Daemon:
    return launch()


@pytest.fixture
def daemon(held: Daemon) -> Daemon:
    assert held.ask("go", token=TOKEN, env={"FROM_GO": "yes"}) == {"ok": True}
    return held


@pytest.fixture
def wait_gone() -> Callable[[int], None]:
    """Waits until a process that is nobody's child here has ended."""

    def wait(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                # Readable once it has ended, whether anybody has reaped it or not.
                assert select.select([descriptor], [], [], 10)[0], f"{pid} lives on"
            finally:
                os.close(descriptor)

    return wait
