"""What `longshore up` derives from the configurations that it is given."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from longshore._local import (
    Listener,
    Ports,
    check_free,
    claimed,
    plan,
    read,
    with_driver,
    write,
)
from longshore._refusal import Refusal

HERE = Path("/srv/longshore")


def test_further_ports_go_with_the_proxy_on_its_usual_port_unless_the_config_names_some():
    usual = plan({}, {}, Ports(extra=(9443,)), HERE).worker["http_proxy"]
    moved = plan({}, {}, Ports(extra=(9443,), proxy=5), HERE).worker["http_proxy"]
    chosen = plan({"http_proxy": {"extra_ports": [7]}}, {}, Ports(extra=(9443,)), HERE).worker
    assert usual["extra_ports"] == [9443]
    assert "extra_ports" not in moved
    assert chosen["http_proxy"]["extra_ports"] == [7]


def test_without_a_config_everything_is_on_loopback_and_under_the_data_directory() -> None:
    system = plan({}, {}, Ports(), HERE)
    assert system.server == {
        "state_store_path": "/srv/longshore/server/state",
        "blob_storage": {"path": "file:///srv/longshore/server/blobs"},
        "listen_addr": "127.0.0.1:8900",
        "listen_addr_grpc": "127.0.0.1:8901",
    }
    assert system.worker == {
        "server_addr": "http://127.0.0.1:8901",
        "state_dir": "/srv/longshore/worker",
        "on_exit": "remove",
        "driver": {"type": "fork_exec"},
        "http_proxy": {
            "advertise_address": "127.0.0.1:8095",
            "listen_addr": "127.0.0.1",
            "port": 8095,
        },
        "monitoring": {"listen_addr": "127.0.0.1", "port": 8100},
        "resource_overrides": {"cpu_count": 16 * (os.cpu_count() or 1)},
    }


def test_ports_asked_for_win_over_those_of_the_config() -> None:
    worker = {"http_proxy": {"port": 1, "listen_addr": "0.0.0.0"}, "monitoring": {"port": 2}}
    system = plan(worker, {"listen_addr": "0.0.0.0:3"}, Ports(http=30, proxy=10), HERE)
    assert [(item.host, item.port) for item in system.listeners] == [
        ("0.0.0.0", 30),
        ("127.0.0.1", 8901),
        ("0.0.0.0", 10),
        ("127.0.0.1", 2),
    ]
    assert system.http.address == "127.0.0.1:30"


def test_what_the_users_config_says_is_kept() -> None:
    worker = {
        "on_exit": "keep",
        "state_dir": "/var/lib/w",
        "server_addr": "https://elsewhere:1",
        "sandbox_driver": {"type": "docker", "password": "${SECRET}"},
        "labels": {"a": "b"},
    }
    derived = plan(worker, {}, Ports(), HERE).worker
    assert worker.items() <= derived.items()
    assert "driver" not in derived


@pytest.mark.parametrize("port", ["${PORT}", "0", "70000", "", "http"])
def test_an_address_without_a_usable_port_is_refused_by_its_key(port: str) -> None:
    with pytest.raises(Refusal) as caught:
        plan({}, {"listen_addr": f"0.0.0.0:{port}"}, Ports(), HERE)
    assert str(caught.value) == (
        f"{port!r} is not a port that can be listened on;"
        " set --port-http, or listen_addr in the server's config"
    )


def test_a_config_is_read_without_resolving_variables(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text("labels: {secret: '${TOKEN}'}\n")
    assert read(tmp_path / "worker.yaml") == {"labels": {"secret": "${TOKEN}"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", ": expected a mapping of keys"),
        ("a: [", "cannot read "),
        ("a: &a [*a]", "cannot read .*: Circular reference detected"),
        ("a: " + "[" * 3000 + "]" * 3000, "cannot read .*: maximum recursion depth exceeded"),
        ("? [a]\n: b", "cannot read .*: keys must be str"),
    ],
)
def test_a_config_that_is_no_mapping_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "worker.yaml").write_text(text)
    with pytest.raises(Refusal, match=said):
        read(tmp_path / "worker.yaml")


def test_a_config_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"cannot read .*: No such file or directory"):
        read(tmp_path / "worker.yaml")


def test_a_derived_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.touch(mode=0o644)
    write(file, {"a": 1})
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {"a": 1}


def test_a_data_directory_is_for_one_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(Refusal) as caught, claimed(tmp_path):
        pytest.fail("claimed twice")
    assert str(caught.value) == (
        f"{tmp_path} is in use by another `longshore up` (process {os.getpid()});"
        " stop that one, or give another --data-dir"
    )
    with claimed(tmp_path):
        pass


def test_every_port_in_use_is_named_with_what_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refusal) as caught:
            check_free((Listener(host="127.0.0.1", port=port, key="--port-http"),))
    assert str(caught.value) == f"port {port} is in use; change it with --port-http"


@pytest.mark.parametrize("key", ["driver", "http_proxy", "monitoring", "resource_overrides"])
def test_a_section_that_is_no_mapping_is_refused_rather_than_replaced(
    tmp_path: Path, key: str
) -> None:
    with pytest.raises(Refusal) as caught:
        plan({key: 5}, {}, Ports(), tmp_path)
    assert caught.value.message == f"{key}: expected a mapping of keys (got 5)"


def test_the_driver_that_is_asked_for_wins_and_its_options_stay() -> None:
    given = {"driver": {"type": "docker", "ready_networks": 2}, "state_dir": "/s"}
    assert with_driver(given, None) == given
    assert with_driver(given, "docker") == given
    assert with_driver(given, "podman") == {"driver": {"type": "podman"}, "state_dir": "/s"}
    assert with_driver({}, "podman") == {"driver": {"type": "podman"}}
    with pytest.raises(Refusal, match="driver: expected a mapping"):
        with_driver({"driver": "docker"}, "docker")
