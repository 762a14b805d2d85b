"""What a container on the worker's own network can reach, on a real engine and host."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.to_thread
import longshore_podman.firewall
import pytest
from longshore_core import ContainerSpec
from longshore_core.abc import Runtime
from longshore_podman.firewall import uplinks_of

from tests.engines.podman import remove_network

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., AbstractAsyncContextManager[Runtime]]
GATEWAY = "10.249.0.1"
OTHER = "lst-other"
"""Another bridge of the host, and the namespace of a machine on it."""
THERE, LINK_LOCAL = "10.248.0.2", "169.254.77.77"
SERVES = """
import socket
server = socket.create_server(("", 7000))
print("up", flush=True)
while True:
    server.accept()
"""
ASKS = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.7)"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def connects(address: str, port: int, namespace: str | None = None) -> bool:
    """Whether a port can be connected to from the host, or from a namespace."""
    enter = ["ip", "netns", "exec", Path(namespace).name] if namespace else []
    command = [*enter, sys.executable, "-I", "-S", "-c", ASKS, address, str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def reaches(address: str, port: int, namespace: str | None = None) -> bool:
    return await anyio.to_thread.run_sync(connects, address, port, namespace)


@pytest.fixture
def inhabited(open_driver: Opener, shell: Shell) -> Callable[..., object]:
    """Open the driver, and run a container there: the answer is its namespace and address."""

    @asynccontextmanager
    async def open_(**config: object) -> AsyncGenerator[tuple[str, str]]:
        async with open_driver(**config) as runtime:
            handle = await runtime.driver.create(shell())
            attachment = await runtime.driver.start(handle)
            try:
                yield str(attachment.netns), attachment.addresses[0]
            finally:
                await runtime.driver.remove(handle)

    return open_


@contextmanager
def serving(namespace: str) -> Iterator[None]:
    """A server at port 7000 of a namespace, at all of its addresses."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-I", "-S", "-c", SERVES]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        yield
        server.kill()


@pytest.fixture
def other() -> Iterator[None]:
    """Another bridge of this host, with a server on it that the host reaches."""
    ip("link", "add", OTHER, "type", "bridge")
    ip("addr", "add", "10.248.0.1/24", "dev", OTHER)
    ip("link", "set", OTHER, "up")
    ip("netns", "add", OTHER)
    try:
        ip("link", "add", "lst-port", "type", "veth", "peer", "name", "eth0", "netns", OTHER)
        ip("link", "set", "lst-port", "master", OTHER, "up")
        for place in ("lo", "eth0"):
            ip("-n", OTHER, "link", "set", place, "up")
        ip("-n", OTHER, "addr", "add", f"{THERE}/24", "dev", "eth0")
        ip("-n", OTHER, "addr", "add", f"{LINK_LOCAL}/32", "dev", "lo")
        ip("-n", OTHER, "route", "add", "default", "via", "10.248.0.1")
        ip("route", "add", f"{LINK_LOCAL}/32", "via", THERE)
        with serving(OTHER):
            yield
    finally:
        ip("link", "del", "lst-port")
        ip("netns", "del", OTHER)
        ip("link", "del", OTHER)


async def test_the_host_is_not_reached_at_any_of_its_addresses_except_for_names(
    inhabited: Callable[..., object],
) -> None:
    listed = subprocess.run(["ip", "-4", "-json", "address"], capture_output=True, check=True)
    addresses = {each["local"] for link in json.loads(listed.stdout) for each in link["addr_info"]}
    beyond = next(each for each in addresses if not each.startswith(("127.", "10.2")))
    async with inhabited() as (namespace, _):
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
            assert await reaches(GATEWAY, port)
            assert not await reaches(GATEWAY, port, namespace)
            assert not await reaches(beyond, port, namespace)
        with socket.create_server((GATEWAY, 53)):
            assert await reaches(GATEWAY, 53, namespace)


async def test_what_is_loosened_is_loosened_in_the_config_and_for_as_long_as_it_says_so(
    inhabited: Callable[..., object],
) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        async with inhabited(host_access=True) as (namespace, _):
            assert await reaches(GATEWAY, port, namespace)
        async with inhabited() as (namespace, _):
            assert not await reaches(GATEWAY, port, namespace)


async def test_another_bridge_of_the_host_is_not_reached_nor_reaches_it(
    inhabited: Callable[..., object], other: None
) -> None:
    async with inhabited(host_access=True) as (namespace, address):
        assert await reaches(THERE, 7000)
        assert not await reaches(THERE, 7000, namespace)
        with serving(Path(namespace).name):
            assert await reaches(address, 7000)
            assert not await reaches(address, 7000, OTHER)


@contextmanager
def rule(place: str, *words: str) -> Iterator[None]:
    """A rule of somebody else's in FORWARD, at its begin (-I) or at its end (-A)."""
    subprocess.run(["iptables", "-w", place, "FORWARD", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-w", "-D", "FORWARD", *words], check=True)


async def test_what_others_accept_opens_nothing(
    inhabited: Callable[..., object], other: None, bridge: str
) -> None:
    async with inhabited() as (namespace, _):
        with rule("-I", "-i", bridge, "-j", "ACCEPT"):
            assert not await reaches(THERE, 7000, namespace)


async def test_the_way_out_is_where_default_routes_lead_and_follows_them(
    inhabited: Callable[..., object], other: None, bridge: str
) -> None:
    async with inhabited() as (namespace, _):
        assert not await reaches(THERE, 7000, namespace)
        ip("route", "add", "default", "via", THERE, "metric", "4242")
        with anyio.fail_after(10):
            while not await reaches(THERE, 7000, namespace):
                pass
        # As on a host that forwards nothing by default.
        with rule("-A", "-i", bridge, "-j", "DROP"), rule("-A", "-o", bridge, "-j", "DROP"):
            assert await reaches(THERE, 7000, namespace)


async def test_what_others_have_closed_stays_closed(
    inhabited: Callable[..., object], other: None, bridge: str
) -> None:
    ip("route", "add", "default", "via", THERE, "metric", "4242")
    remove_network(bridge)
    # At the very end, as firewalls have it that drop what they have not accepted before.
    with rule("-A", "-d", THERE, "-j", "DROP"):
        async with inhabited() as (namespace, _):
            assert not await reaches(THERE, 7000, namespace)


async def test_link_local_addresses_are_not_reached_unless_the_host_is(
    inhabited: Callable[..., object], other: None
) -> None:
    ip("route", "add", "default", "via", THERE, "metric", "4242")
    assert await reaches(LINK_LOCAL, 7000)
    async with inhabited() as (namespace, _):
        assert await reaches(THERE, 7000, namespace)
        assert not await reaches(LINK_LOCAL, 7000, namespace)
    async with inhabited(host_access=True) as (namespace, _):
        assert await reaches(LINK_LOCAL, 7000, namespace)


async def test_rules_that_somebody_has_taken_are_back_with_the_next_worker(
    inhabited: Callable[..., object], bridge: str
) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        async with inhabited():
            pass
        subprocess.run(["iptables", "-w", "-t", "mangle", "-F", f"{bridge}-host"], check=True)
        subprocess.run(["iptables", "-w", "-t", "mangle", "-F", "INPUT"], check=True)
        for _ in range(2):
            async with inhabited() as (namespace, _):
                assert not await reaches(GATEWAY, port, namespace)
    shown = subprocess.run(
        ["iptables", "-w", "-t", "mangle", "-S", "INPUT"], capture_output=True, text=True
    )
    assert shown.stdout.count(f"-i {bridge} ") == 1


async def test_rules_that_somebody_has_taken_are_back_soon(
    inhabited: Callable[..., object], bridge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longshore_podman.firewall, "_RULES_SECONDS", 0.2)
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        async with inhabited() as (namespace, _):
            for chain in (f"{bridge}-host", "INPUT"):
                subprocess.run(["iptables", "-w", "-t", "mangle", "-F", chain], check=True)
            with anyio.fail_after(30):
                while await reaches(GATEWAY, port, namespace):
                    pass


@pytest.mark.parametrize(("before", "policy"), [("0", "DROP"), ("1", "ACCEPT")])
@pytest.mark.needs_root
def test_a_host_that_is_no_router_becomes_one_for_nobody_else(before: str, policy: str) -> None:
    """On a host of its own, as far as networks go."""
    name = f"lst-{uuid4().hex[:8]}"
    script = f"""
        import anyio, logging, sys
        from ipaddress import IPv4Network
        from pathlib import Path
        from longshore_podman.namespaces import Plan
        from longshore_podman.networks import open_networks
        forwarding = Path("/proc/sys/net/ipv4/ip_forward")
        plan = Plan(bridge="lst-host", subnet=IPv4Network("10.9.0.0/24"), mark="m")
        async def main():
            for _ in range(2):
                async with open_networks(plan, 0, logging.getLogger(), host_access=False):
                    print(forwarding.read_text(), end="")
        forwarding.write_text("{before}")
        anyio.run(main)
        print(Path("/proc/sys/net/ipv6/conf/lst-host/disable_ipv6").read_text(), end="")
    """
    lines = "\n".join(line.removeprefix(" " * 8) for line in script.splitlines())
    ip("netns", "add", name)
    try:
        enter = ["ip", "netns", "exec", name]
        ran = subprocess.run([*enter, sys.executable, "-c", lines], capture_output=True, text=True)
        assert (ran.stdout.split(), ran.returncode) == (["1", "1", "1"], 0), ran.stderr
        asked = subprocess.run([*enter, "iptables", "-S", "FORWARD"], capture_output=True)
        assert asked.stdout.decode().splitlines()[0] == f"-P FORWARD {policy}"
    finally:
        ip("netns", "del", name)


def test_uplinks_are_what_default_routes_leave_by() -> None:
    routes = [
        {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"},
        {"dst": "default", "nexthops": [{"dev": "eth1"}, {"dev": "eth2"}]},
        {"dst": "128.0.0.0/1", "dev": "tun0"},
        {"dst": "172.17.0.0/16", "dev": "docker0"},
        {"type": "unreachable", "dst": "default"},
    ]
    assert uplinks_of(json.dumps(routes)) == {"eth0", "eth1", "eth2", "tun0"}
    assert uplinks_of("") == frozenset()
