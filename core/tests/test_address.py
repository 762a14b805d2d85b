from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import ConfigError
from longshore_core.address import EngineAddress, TcpAddress, UnixAddress, parse_address
from longshore_core.process.config import validate
from pydantic import BaseModel


class Config(BaseModel, extra="forbid"):
    address: EngineAddress | None = None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///var/run/docker.sock", UnixAddress("/var/run/docker.sock")),
        ("/run/podman/podman.sock", UnixAddress("/run/podman/podman.sock")),
        ("tcp://10.0.0.1:2375", TcpAddress("10.0.0.1", 2375)),
        ("tcp://[::1]:2375", TcpAddress("::1", 2375)),
        (None, None),
    ],
)
def test_every_form_that_operators_write_is_read(text, address) -> None:
    assert validate(Config, {"address": text}).address == address


def test_absent_means_that_the_driver_looks() -> None:
    assert validate(Config, {}).address is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run/docker.sock", "'run/docker.sock' is no absolute path; write unix:///run/engine.sock"),
        ("http://h:1", "'http://h:1' has the scheme 'http'; there are unix:// and tcp://"),
        ("tcp://h", "'tcp://h' must be tcp://host:port and nothing more"),
        ("tcp://h:99999", "'tcp://h:99999' has no port from 1 to 65535"),
        ("tcp://user@h:1", "'tcp://user@h:1' must be tcp://host:port and nothing more"),
        ("", "must be unix:///path, tcp://host:port or a path"),
        (7, "must be unix:///path, tcp://host:port or a path"),
    ],
)
def test_what_is_no_address_is_refused_by_its_path(text, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Config, {"address": text}, at=("driver",))
    assert str(caught.value).startswith(f"driver.address: {message}")


@given(st.sampled_from(["h", "10.0.0.1", "::1"]), st.integers(1, 65535))
def test_an_address_reads_back_as_it_is_shown(host: str, port: int) -> None:
    for address in (TcpAddress(host, port), UnixAddress(f"/run/{port}.sock")):
        assert parse_address(str(address)) == address
