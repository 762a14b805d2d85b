"""The worker's own network on a real engine: reach, neighbours, the pool, and what is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from longshore_core import Attachment, BackendError, ContainerSpec, Exit, Handle, NetworkMode
from longshore_core.abc import Driver

from tests.engines import images
from tests.engines.podman import Podman

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]
SERVES = """
import socket
server = socket.create_server(("", 7000))
while True:
    server.accept()[0].sendall(b"hello")
"""
ASKS = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"


async def started(driver: Driver, spec: ContainerSpec) -> tuple[Handle, Attachment]:
    handle = await driver.create(spec)
    return handle, await driver.start(handle)


def answers(address: str, namespace: str | None = None) -> bool:
    """Whether port 7000 of an address can be connected to, from the host or a namespace."""
    enter = ["ip", "netns", "exec", Path(namespace).name] if namespace else []
    command = [*enter, sys.executable, "-I", "-S", "-c", ASKS, address, "7000"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def python(shell: Shell, code: str, *argv: str, name: str = "c") -> ContainerSpec:
    words = ("python3", "-I", "-S", "-c", code, *argv)
    return shell(name=name, image=images.BASE.reference, argv=words)


async def test_the_host_reaches_a_container_and_its_neighbour_does_not(
    driver: Driver, shell: Shell
) -> None:
    _, one = await started(driver, python(shell, SERVES, name="one"))
    _, two = await started(driver, shell(name="two"))
    with anyio.fail_after(10):
        while not await anyio.to_thread.run_sync(answers, one.addresses[0]):
            await anyio.sleep(0.05)
    assert not await anyio.to_thread.run_sync(answers, one.addresses[0], two.netns)


async def test_its_attachment_names_the_hosts_side_of_it(
    driver: Driver, shell: Shell, bridge: str
) -> None:
    _, attachment = await started(driver, shell())
    interface = Path("/sys/class/net", attachment.interface or "")
    assert (interface / "master").resolve().name == bridge
    assert (interface / "brport" / "isolated").read_text() == "1\n"
    done = subprocess.run(
        ["ip", "netns", "exec", Path(attachment.netns or "").name, "ip", "-o", "address"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f" {attachment.addresses[0]}/" in done.stdout
    assert "eth0    inet6" not in done.stdout


@pytest.mark.parametrize("network", ["none", "podman"])
async def test_a_network_of_podmans_is_used_when_it_is_named(
    open_driver: Opener, shell: Shell, network: str
) -> None:
    async with open_driver(network=network) as runtime:
        assert runtime.facts.network is NetworkMode.NONE
        interface = "! grep -q eth0" if network == "none" else "grep -q eth0"
        spec = shell(f"{interface} /proc/net/dev")
        handle, attachment = await started(runtime.driver, spec)
        assert attachment == Attachment()
        assert await runtime.driver.wait(handle) == Exit(code=0)
        await runtime.driver.remove(handle)


# The pool.


def namespaces(bridge: str) -> set[str]:
    return {name for name in os.listdir("/run/netns") if name.startswith(bridge)}


async def until(condition: Callable[[], bool]) -> None:
    """For what a task of the driver does, and tells nobody of."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


async def test_namespaces_are_kept_ready_and_none_is_left(
    open_driver: Opener, shell: Shell, bridge: str
) -> None:
    before = namespaces(bridge)
    async with open_driver(ready_networks=3) as runtime:
        await until(lambda: len(namespaces(bridge) - before) == 3)
        ready = namespaces(bridge) - before
        handle, attachment = await started(runtime.driver, shell())
        assert Path(attachment.netns or "").name in ready
        await until(lambda: len(namespaces(bridge) - before) == 4)
        await runtime.driver.remove(handle)
        assert len(namespaces(bridge) - before) == 3
    assert namespaces(bridge) == before


async def test_what_a_killed_worker_has_left_is_swept_and_what_is_in_use_is_not(
    open_driver: Opener, shell: Shell, bridge: str
) -> None:
    before = namespaces(bridge)
    async with open_driver() as runtime:
        handle, attachment = await started(runtime.driver, shell())
        used = Path(attachment.netns or "").name
    # As if it had been killed with namespaces ready: they are called like ours, of no container.
    stem = used.rpartition("-")[0]
    for number in (3001, 3002):
        subprocess.run(["ip", "netns", "add", f"{stem}-{number}"], check=True)
    async with open_driver() as runtime:
        await until(lambda: namespaces(bridge) - before == {used})
        assert [each.attachment for each in await runtime.driver.survey()] == [attachment]
        await runtime.driver.remove(handle)
    assert namespaces(bridge) == before


@contextmanager
def immovable(name: str) -> Iterator[None]:
    """A namespace that cannot be taken away: none, in truth."""
    place = Path("/run/netns", name)
    place.mkdir()
    try:
        yield
    finally:
        place.rmdir()


async def test_what_cannot_be_swept_is_told_and_swept_once_it_can(
    open_driver: Opener, shell: Shell, bridge: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = namespaces(bridge)
    async with open_driver() as runtime:
        handle, attachment = await started(runtime.driver, shell())
        await runtime.driver.remove(handle)
    stuck = f"{Path(attachment.netns or '').name.rpartition('-')[0]}-3003"
    with ExitStack() as stack:
        stack.enter_context(immovable(stuck))
        async with open_driver() as runtime:
            await until(lambda: "podman_network_left" in caplog.messages)
            handle, _ = await started(runtime.driver, shell())
            await runtime.driver.remove(handle)
            stack.close()
            subprocess.run(["ip", "netns", "add", stuck], check=True)
            await until(lambda: namespaces(bridge) == before)


async def test_a_removal_that_leaves_a_namespace_says_so_and_can_be_repeated(
    driver: Driver, shell: Shell
) -> None:
    handle, attachment = await started(driver, shell())
    name = Path(attachment.netns or "").name
    subprocess.run(["ip", "netns", "del", name], check=True)
    words = f"cannot take network namespace {name} away"
    with immovable(name), pytest.raises(BackendError, match=words):
        await driver.remove(handle)
    await driver.remove(handle)
    assert await driver.survey() == []


async def test_more_at_once_than_are_ready_all_get_one(
    open_driver: Opener, shell: Shell, bridge: str, podman: Podman
) -> None:
    before = namespaces(bridge)
    async with open_driver(ready_networks=2) as runtime:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(runtime.driver.create, shell(name=f"c{number}"))
        found = await runtime.driver.survey()
        attachments = [await runtime.driver.start(each.handle) for each in found]
        assert len({each.addresses for each in attachments}) == 8
        for each in found:
            await runtime.driver.remove(each.handle)
    assert namespaces(bridge) == before
