"""The SDK's way to an engine: many things asked of it, and one that has gone."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import docker
import pytest
import requests
from longshore_core.address import UnixAddress
from longshore_docker import transport


class _Answer(BaseHTTPRequestHandler):
    """Of an engine to whom all is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "docker.sock")
    with socketserver.ThreadingUnixStreamServer(path, _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def test_many_things_may_be_asked_between_the_choice_of_a_way_and_its_use(engine: str) -> None:
    client = docker.APIClient(base_url=f"unix://{engine}", version="1.41")
    transport.mount(client, UnixAddress(engine), 5.0, 4)
    client.headers["Connection"] = "close"
    adapter = client.get_adapter("http+docker://")
    chosen = adapter.get_connection("http+docker://localhost/first")
    for number in range(30):
        assert client.get(f"http+docker://localhost/{number}").text == "OK"
    assert chosen.urlopen("GET", "/first", timeout=5).status == 200
    client.close()


def test_no_socket_is_left_open_where_nobody_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "docker.sock")
    client = docker.APIClient(base_url=f"unix://{path}", version="1.41")
    transport.mount(client, UnixAddress(path), 1.0, 1)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(requests.ConnectionError) as caught:
        client.ping()
    # Its frames live as long as it is held, and what they have opened.
    assert caught.value.__traceback__ is not None
    assert len(os.listdir("/proc/self/fd")) == before
    client.close()
