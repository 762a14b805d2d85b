"""TLS and mTLS between worker and server, with certificates made for the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.system.harness import System, system, until


class Papers:
    """A root, the server's certificate and the worker's, as files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        root = trustme.CA()
        self.ca = self._write("ca.pem", root.cert_pem)
        self.stranger = self._write("stranger.pem", trustme.CA().cert_pem)
        for name, issued in (
            ("server", root.issue_cert("server.test")),
            ("worker", root.issue_cert("worker.test")),
        ):
            self._write(f"{name}-key.pem", issued.private_key_pem)
            self._write(f"{name}.pem", issued.cert_chain_pems[0])

    def server(self, **more: Any) -> dict[str, Any]:
        return {
            "enabled": True,
            "cert_path": str(self.directory / "server.pem"),
            "key_path": str(self.directory / "server-key.pem"),
            **more,
        }

    def worker(self, **more: Any) -> dict[str, Any]:
        return {"enabled": True, "ca_cert_path": self.ca, "domain_name": "server.test", **more}

    def client(self) -> dict[str, str]:
        return {
            "client_cert_path": str(self.directory / "worker.pem"),
            "client_key_path": str(self.directory / "worker-key.pem"),
        }

    def _write(self, name: str, blob: trustme.Blob) -> str:
        blob.write_to_path(str(self.directory / name))
        return str(self.directory / name)


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    (tmp_path / "tls").mkdir()
    return Papers(tmp_path / "tls")


def start(whole: System, server_tls: dict[str, Any], worker_tls: dict[str, Any]) -> None:
    for file, tls in ((whole.server_config, server_tls), (whole.worker_config, worker_tls)):
        settings = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**settings, "tls": tls}), encoding="utf-8")
    whole.start("server")
    until(lambda: whole.answers(whole.api, "/healthz"), "the server answers")
    whole.start("worker")


def test_a_worker_registers_over_tls(tmp_path: Path, papers: Papers) -> None:
    with system(tmp_path) as whole:
        start(whole, papers.server(), papers.worker())
        until(whole.registered, "the worker registers")


def test_a_worker_registers_with_a_certificate_of_its_own(tmp_path: Path, papers: Papers) -> None:
    with system(tmp_path) as whole:
        start(
            whole,
            papers.server(client_ca_path=papers.ca),
            papers.worker(**papers.client()),
        )
        until(whole.registered, "the worker registers")


@pytest.mark.parametrize("case", ["another root", "another name", "no certificate", "no tls"])
def test_whom_the_papers_do_not_fit_is_kept_out(tmp_path: Path, papers: Papers, case: str) -> None:
    server, worker = papers.server(), papers.worker()
    match case:
        case "another root":
            worker = papers.worker(ca_cert_path=papers.stranger)
        case "another name":
            worker = papers.worker(domain_name="other.test")
        case "no certificate":
            server = papers.server(client_ca_path=papers.ca)
        case _:
            worker = {"enabled": False}
    with system(tmp_path) as whole:
        start(whole, server, worker)
        log = tmp_path / "worker.log"
        until(lambda: "Heartbeat failed; trying again" in log.read_text(), "it is said")
        assert not whole.registered()
        assert "Traceback" not in log.read_text()
        assert whole.api.get("/internal/executors").json() == []
