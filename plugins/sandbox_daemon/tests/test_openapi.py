"""The daemon, held to its OpenAPI document by requests that nobody would write by hand."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import Options, Patience, SandboxDaemon
from longshore_daemon.inside.areas import Areas
from longshore_daemon.inside.loop import Loop
from longshore_daemon.inside.paths import Paths
from longshore_daemon.inside.processes import Processes
from longshore_daemon.inside.sandbox import Sandbox
from longshore_daemon.inside.server import Server
from longshore_daemon.inside.store import Store
from schemathesis.checks import content_type_conformance, response_schema_conformance
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

Daemon = Any
DOCUMENT = Path(__file__).parents[3] / "docs" / "sandbox-daemon.openapi.yaml"
EXAMPLES = int(os.environ.get("LONGSHORE_EXAMPLES", "40"))
"""For each operation; a long run takes thousands."""
TYPED = {
    *("STOPPING", "DISK_FULL", "CONNECTION_REFUSED", "CONNECTION_TIMEOUT"),
    "UNSUPPORTED_CAPABILITY",
}
"""What may be answered with 500 and above."""
ENDLESS = ("text/event-stream", "application/vnd.longshore.frames")


def operations() -> list[Any]:
    schema = schemathesis.openapi.from_path(DOCUMENT)
    return [found.ok() for found in schema.get_all_operations()]


def test_the_document_has_all_routes_and_no_others(tmp_path: Path) -> None:
    loop = Loop()
    processes = Processes(loop, {}, Store((str(tmp_path),)))
    server, areas = Server(Sandbox(processes), Paths("")), Areas(processes, Paths(""))
    routes = list(server.own_routes)
    for area in ("pty", "files", "files/watch", "tunnels"):
        routes += areas.routes(area)
    paths = yaml.safe_load(DOCUMENT.read_text())["paths"]
    documented = [
        (method.upper(), _pattern(path))
        for path, item in paths.items()
        for method in item
        if method != "parameters"
    ]
    assert sorted(documented) == sorted((method, pattern) for method, pattern, _ in routes)


def _pattern(path: str) -> str:
    parts = path.removeprefix("/").split("/")
    return "/".join("*" if part.startswith("{") else part for part in parts)


@pytest.fixture(scope="module")
def confined(
    runtime: Any, tmp_path_factory: pytest.TempPathFactory, daemon_class: type[Daemon]
) -> Iterator[Daemon]:
    """One that can do no harm: its files are its own, and it finds no commands."""
    root = tmp_path_factory.mktemp("root")
    (root / "file").write_bytes(b"content")
    options = Options(files_root=str(root))
    guest = SandboxDaemon(runtime, Patience(start=10, call=5, grace=5), options)
    spec = ContainerSpec(id=ContainerId("c"), argv=(), env={"PATH": "/nonexistent"})
    launched = guest.launch(spec, Facts(mounts=False))
    daemon = daemon_class(launched.argv, launched.env, cwd=root)
    daemon.ask("go", token="the-token")
    with ExitStack() as stack:
        stack.callback(daemon.close)
        yield daemon


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_every_answer_is_of_the_promised_shape_and_no_error_is_untyped(
    confined: Daemon, operation: Any
) -> None:
    if not _is_alive(confined):
        pytest.fail(confined.log())

    there = {
        "pid": str(confined.start("/bin/cat", stdin_mode="pipe")["pid"]),
        "session": confined.open_pty("/bin/cat")["session_id"],
    }

    @given(case=operation.as_strategy(), is_known=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def examine(case: Any, is_known: bool) -> None:
        for name in case.path_parameters.keys() & there.keys():
            if is_known:
                case.path_parameters[name] = there[name]
        with requests.Session() as session:
            session.mount("http://", _Adapter(confined.connect))
            headers = {"Longshore-Sandbox-Token": "the-token"}
            sent = case.as_transport_kwargs(base_url="http://sandbox/api/v1", headers=headers)
            response = session.request(**sent, stream=True, timeout=20)
            if response.headers.get("content-type") in ENDLESS:
                assert response.status_code == 200
                return
            told = f"{case.as_curl_command()}\n{response.status_code} {response.text[:2000]}"
            if response.status_code < 400:
                checks = [content_type_conformance, response_schema_conformance]
                case.validate_response(response, checks=checks)
            elif operation.method != "head":
                body = response.json()
                fields = {"error", "message", "code", "retryable", "request_id"}
                assert fields == body.keys(), told
                assert response.status_code < 500 or body["code"] in TYPED, told

    examine()
    confined.http.delete(f"pty/{there['session']}")
    assert "Traceback" not in confined.log()


def _is_alive(daemon: Daemon) -> bool:
    return daemon.process.poll() is None


class _Adapter(requests.adapters.HTTPAdapter):
    """Over connections of another making than by name and port."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__()

        class Connection(HTTPConnection):
            def connect(self) -> None:
                self.sock = connect()

        self._pool = HTTPConnectionPool("sandbox")
        self._pool.ConnectionCls = Connection

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
