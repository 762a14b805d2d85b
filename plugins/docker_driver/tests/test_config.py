"""What operators write, and what they hear when it is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from longshore_core import ConfigError
from longshore_core.address import TcpAddress, UnixAddress
from longshore_core.process import config as configuration
from longshore_docker.config import Config, default_ulimits, parse_bind


def refusal(**options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        configuration.validate(Config, options, at=("driver",))
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"privileged": True}, "driver.privileged: no container is privileged"),
        ({"network": "host"}, "driver.network: containers cannot share 'host'"),
        ({"network": "container:x"}, "driver.network: containers cannot share 'container:x'"),
        ({"binds": ["/a"]}, "driver.binds: '/a' must be /host/path:/container/path"),
        ({"binds": ["/a:/b:rx"]}, "driver.binds: '/a:/b:rx' must be"),
        ({"ready_networks": -1}, "driver.ready_networks"),
        ({"address": "ssh://x"}, "driver.address: 'ssh://x' has the scheme 'ssh'"),
        ({"platform": "windows/amd64"}, "driver.platform"),
        ({"ulimits": {"NOFILE": 1}}, "driver.ulimits: 'NOFILE' must be written in lower case"),
        ({"prefixx": 1}, "driver.prefixx"),
    ],
)
def test_a_mistake_is_refused_where_it_is(options: Mapping[str, object], words: str) -> None:
    assert words in refusal(**options)


def test_absent_the_address_is_dockers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert Config().engine == UnixAddress("/var/run/docker.sock")
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert Config().engine == TcpAddress("10.0.0.1", 2375)
    assert Config.model_validate({"address": "/run/x.sock"}).engine == UnixAddress("/run/x.sock")


@pytest.mark.parametrize(
    ("address", "local"),
    [("/run/x.sock", True), ("tcp://127.0.0.1:2375", False), ("tcp://10.0.0.1:2375", False)],
)
def test_only_an_engine_at_a_socket_of_this_host_sees_its_files(address: str, local: bool) -> None:
    assert Config.model_validate({"address": address}).is_local is local


def test_a_bind_is_read_only_when_it_says_so() -> None:
    assert parse_bind("/a:/b:ro") == ("/a", "/b", True)
    assert parse_bind("/a:/b") == ("/a", "/b", False)


def test_ulimits_are_never_more_than_this_machine_lets_anybody_have() -> None:
    assert default_ulimits()["core"] == 0
    assert default_ulimits()["stack"] <= 1 << 30
