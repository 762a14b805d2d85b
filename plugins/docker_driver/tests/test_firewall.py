"""The worker's own network is closed to the host, and to where clouds tell secrets."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from longshore_core import ContainerSpec, Exit, NetworkPolicyError
from longshore_core.abc import Driver
from longshore_docker import networks
from longshore_docker.config import Config
from longshore_docker.firewall import Firewall

from tests.engines.between import Exchange
from tests.engines.dockerd import Docker

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]
METADATA = "169.254.77.2"


@pytest.fixture
def host_port() -> Iterator[int]:
    """Of a server on all of this host's addresses."""
    with closing(socket.create_server(("0.0.0.0", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def metadata_port() -> Iterator[int]:
    """Of a server beside this host, at a link-local address, as clouds have one."""
    space, ours, theirs = "lsd-metadata", "lsd-md0", "lsd-md1"
    script = "import socket; s = socket.create_server(('', 8000)); print(flush=True); s.accept()"
    inside = ("ip", "netns", "exec", space)

    def run(*argv: str) -> None:
        subprocess.run(argv, check=True)

    run("ip", "netns", "add", space)
    try:
        run("ip", "link", "add", ours, "type", "veth", "peer", theirs, "netns", space)
        run("ip", "address", "add", "169.254.77.1/30", "dev", ours)
        run("ip", "link", "set", ours, "up")
        run(*inside, "ip", "address", "add", f"{METADATA}/30", "dev", theirs)
        run(*inside, "ip", "link", "set", theirs, "up")
        command = [*inside, sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            server.stdout.readline()
            yield 8000
            server.kill()
    finally:
        run("ip", "netns", "delete", space)
        subprocess.run(["ip", "link", "delete", ours], check=False, capture_output=True)


async def reaches(driver: Driver, shell: Shell, address: str, port: int) -> bool:
    """Whether a sandbox can open a connection."""
    handle = await driver.create(shell(f"nc -w 2 {address} {port} -e true"))
    await driver.start(handle)
    with anyio.fail_after(30):
        end = await driver.wait(handle)
    await driver.remove(handle)
    return end == Exit(code=0)


def gateway(docker: Docker, owner: str) -> str:
    name = docker.run(
        *("network", "ls", "--filter", f"label=longshore.owner={owner}", "--format", "{{.Name}}")
    )
    return docker.run("network", "inspect", name, "--format", "{{(index .IPAM.Config 0).Gateway}}")


def bridge_of(owner: str) -> str:
    return f"lsn{hashlib.sha256(owner.encode()).hexdigest()[:8]}"


def rules(owner: str) -> list[str]:
    """Those of the owner's network, chains included."""
    command = ["iptables", "-w", "-t", "mangle", "-S"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if bridge_of(owner) in line]


def flush(owner: str) -> None:
    """As a reload of the host's firewall does."""
    for rule in (line.split() for line in rules(owner) if line.startswith("-A ")):
        subprocess.run(["iptables", "-w", "-t", "mangle", "-D", *rule[1:]], check=True)


async def eventually(holds: Callable[[], bool]) -> None:
    """For what the driver does by itself, and tells nobody of."""
    with anyio.fail_after(20):
        while not await anyio.to_thread.run_sync(holds):
            await anyio.sleep(0.05)


async def its_gateway(docker: Docker, driver: Driver, shell: Shell, owner: str) -> str:
    await driver.create(shell(name="first"))
    return gateway(docker, owner)


@pytest.mark.parametrize("pool", [0, 1])
@pytest.mark.parametrize("host_access", [False, True])
async def test_the_host_is_reached_only_where_the_config_says_so(
    open_driver: Opener,
    docker: Docker,
    shell: Shell,
    owner: str,
    host_port: int,
    host_access: bool,
    pool: int,
) -> None:
    async with open_driver(host_access=host_access, ready_networks=pool) as runtime:
        driver = runtime.driver
        address = await its_gateway(docker, driver, shell, owner)
        assert await reaches(driver, shell, address, host_port) is host_access
        for found in await driver.survey():
            await driver.remove(found.handle)


@pytest.mark.parametrize("host_access", [False, True])
async def test_metadata_is_reached_only_where_the_config_says_so(
    open_driver: Opener, shell: Shell, metadata_port: int, host_access: bool
) -> None:
    async with open_driver(host_access=host_access) as runtime:
        assert await reaches(runtime.driver, shell, METADATA, metadata_port) is host_access


async def test_the_host_answers_questions_of_names_and_reaches_sandboxes(
    open_driver: Opener, docker: Docker, shell: Shell, owner: str
) -> None:
    async with open_driver() as runtime:
        driver = runtime.driver
        handle = await driver.create(shell("exec nc -l -p 8000 -e echo here", name="server"))
        (address,) = (await driver.start(handle)).addresses
        with anyio.fail_after(10):
            while True:
                try:
                    stream = await anyio.connect_tcp(address, 8000)
                except OSError:
                    await anyio.sleep(0.02)
                    continue
                async with stream:
                    assert await stream.receive() == b"here\n"
                    break
        names = socket.create_server((gateway(docker, owner), 53))
        with closing(names):
            assert await reaches(driver, shell, gateway(docker, owner), 53)
        await driver.remove(handle)


async def test_the_engine_resolves_names_in_a_closed_network(
    driver: Driver, docker: Docker, shell: Shell
) -> None:
    first = await driver.create(shell(name="first"))
    await driver.start(first)
    script = f"nslookup indexify-{first.id} 127.0.0.11"
    handle = await driver.create(shell(script, name="asks"))
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=0), docker.run("logs", f"indexify-{handle.id}")


async def test_rules_come_back_and_go_with_the_network(
    open_driver: Opener, docker: Docker, shell: Shell, owner: str, host_port: int
) -> None:
    async with open_driver() as runtime:
        handle = await runtime.driver.create(shell(name="first"))
        await runtime.driver.start(handle)
        address = gateway(docker, owner)
        kept = rules(owner)
    # In use, network and rules stay; the next worker finds neither more nor less.
    assert rules(owner) == kept != []
    flush(owner)
    async with open_driver() as runtime:
        assert not await reaches(runtime.driver, shell, address, host_port)
        assert rules(owner) == kept
        await runtime.driver.remove(handle)
    assert rules(owner) == []


async def test_rules_that_somebody_flushed_come_back_while_nothing_happens(
    open_driver: Opener, shell: Shell, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "_RULES_SECONDS", 0.5)
    async with open_driver() as runtime:
        handle = await runtime.driver.create(shell())
        await runtime.driver.start(handle)
        kept = rules(owner)
        for _ in range(2):
            flush(owner)
            assert rules(owner) != kept
            await eventually(lambda: rules(owner) == kept)
        await runtime.driver.remove(handle)


async def test_a_sandbox_that_joins_what_is_ready_has_the_rules_looked_at(
    open_between: Opener, shell: Shell, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed, looks, go_on = anyio.Event(), anyio.Event(), anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if exchange.request == "GET /containers/json" and armed.is_set() and not looks.is_set():
            # Whoever keeps networks ready is busy: it is not he who sets the rules.
            looks.set()
            await go_on.wait()
        await exchange.forward()

    async with open_between(engine, ready_networks=2) as runtime:
        first = await runtime.driver.create(shell(name="first"))
        await eventually(lambda: len(rules(owner)) > 0)
        kept = rules(owner)
        armed.set()
        await runtime.driver.remove(first)
        with anyio.fail_after(20):
            await looks.wait()
        flush(owner)
        monkeypatch.setattr(networks, "_RULES_SECONDS", 0.0)
        handle = await runtime.driver.create(shell(name="second"))
        assert rules(owner) == kept
        go_on.set()
        await runtime.driver.remove(handle)


async def test_a_firewall_that_cannot_be_run_is_tried_again(
    open_scripted: Opener,
    owner: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "_RULES_SECONDS", 0.2)
    monkeypatch.setattr(networks, "_AGAIN_SECONDS", 0.2)
    async with open_scripted({}) as runtime:
        await eventually(lambda: rules(owner) != [])
        kept = rules(owner)
        with monkeypatch.context() as patch:
            patch.setenv("PATH", str(tmp_path))
            await eventually(lambda: "docker_network_not_ready" in caplog.text)
        # Of either family, and at whichever step it was.
        said = [str(record.__dict__.get("why")) for record in caplog.records]
        assert any(re.match(r"cannot run ip6?tables[a-z-]*: \[Errno 2\]", why) for why in said)
        flush(owner)
        await eventually(lambda: set(rules(owner)) >= set(kept))
        assert await runtime.driver.survey() == []


async def test_a_firewall_that_does_not_read_what_it_is_given_says_why(
    owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate({"address": "unix:///var/run/docker.sock"})
    firewall = Firewall(bridge_of(owner), config, logging.getLogger("rules"))
    program = tmp_path / "iptables-restore"
    program.write_text("#!/bin/sh\nexec <&-\necho no room >&2\nexit 4\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(NetworkPolicyError) as caught:
        await firewall.set()
    assert str(caught.value) == (
        "cannot close the network of sandboxes: iptables-restore: no room; where that is as it "
        "should be, set driver.host_access to true"
    )
    assert caught.value.retryable


async def test_what_cannot_be_closed_is_said_once(
    owner: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config.model_validate({"address": "tcp://10.0.0.1:2375"})
    firewall = Firewall(
        f"lsn{hashlib.sha256(owner.encode()).hexdigest()[:8]}", config, logging.getLogger("rules")
    )
    await firewall.set()
    await firewall.set()
    assert rules(owner) == []
    (record,) = caplog.records
    assert record.message == "docker_network_not_closed"
    assert record.__dict__["why"] == (
        "sandboxes reach this host and its cloud's metadata: the engine at tcp://10.0.0.1:2375 is "
        "taken for another host's"
    )
