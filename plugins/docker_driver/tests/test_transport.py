"""The SDK's way to an engine that has gone."""

from __future__ import annotations

import os
from pathlib import Path

import docker
import pytest
import requests
from longshore_core.address import UnixAddress
from longshore_docker import transport


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
