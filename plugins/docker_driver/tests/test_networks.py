"""The pool of namespaces that are ready, and the network that containers are in."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import longshore_docker
import pytest
from longshore_core import ContainerSpec, EngineUnavailable, Exit, Handle
from longshore_core.abc import Driver, Runtime

from tests.engines import images
from tests.engines.between import Exchange, between
from tests.engines.dockerd import Docker

Shell = Callable[..., ContainerSpec]
Left = Callable[[str], tuple[list[str], list[str]]]


@pytest.fixture
def holders(docker: Docker, owner: str) -> Callable[[], int]:
    """How many namespaces of this owner are held open."""
    label = f"label=longshore.owner={owner}"

    def count() -> int:
        command = ("ps", "--filter", label, "--filter", "label=longshore.role=network", "--quiet")
        return len(docker.run(*command).split())

    return count


async def eventually(holds: Callable[[], bool]) -> None:
    """For what the driver does by itself, and tells nobody of."""
    with anyio.fail_after(60):
        while not await anyio.to_thread.run_sync(holds):
            await anyio.sleep(0.05)


@pytest.fixture
def open_pool(
    open_driver: Callable[..., object], holders: Callable[[], int]
) -> Callable[..., object]:
    @asynccontextmanager
    async def open_(size: int = 2, **config: object) -> AsyncGenerator[Runtime]:
        async with open_driver(ready_networks=size, **config) as runtime:
            await eventually(lambda: holders() == size)
            yield runtime

    return open_


async def running(driver: Driver, spec: ContainerSpec) -> Handle:
    handle = await driver.create(spec)
    await driver.start(handle)
    return handle


async def test_a_container_joins_a_namespace_that_was_ready(
    open_pool: Callable[..., object], shell: Shell, docker: Docker, owner: str, left_of: Left
) -> None:
    async with open_pool() as runtime:
        handle = await runtime.driver.create(shell())
        attachment = await runtime.driver.start(handle)
        mode = docker.run(
            "inspect", f"indexify-{handle.id}", "--format", "{{.HostConfig.NetworkMode}}"
        )
        assert mode.startswith("container:")
        (address,) = attachment.addresses
        shown = docker.run("exec", f"indexify-{handle.id}", "ip", "-4", "addr", "show", "eth0")
        assert f"inet {address}/" in shown
        assert attachment.interface in os.listdir("/sys/class/net")
        assert attachment.netns is not None
        assert Path(attachment.netns).exists()
        (found,) = await runtime.driver.survey()
        assert found.attachment == attachment
        await runtime.driver.remove(handle)
    assert left_of(owner) == ([], [])


async def test_the_pool_is_filled_again_and_a_holder_goes_with_its_container(
    open_pool: Callable[..., object],
    holders: Callable[[], int],
    shell: Shell,
    owner: str,
    left_of: Left,
) -> None:
    async with open_pool() as runtime:
        first = await running(runtime.driver, shell(name="one"))
        second = await running(runtime.driver, shell(name="two"))
        await eventually(lambda: holders() == 4)
        await runtime.driver.remove(first)
        assert holders() == 3
        await runtime.driver.remove(second)
        assert holders() == 2
    assert left_of(owner) == ([], [])


async def test_name_resolution_and_the_hostname_behave_as_in_a_network_of_ones_own(
    open_pool: Callable[..., object], shell: Shell
) -> None:
    script = 'grep -q nameserver /etc/resolv.conf && grep -q "$(hostname)" /etc/hosts'
    async with open_pool(1) as runtime:
        handle = await running(runtime.driver, shell(script))
        assert await runtime.driver.wait(handle) == Exit(code=0)
        await runtime.driver.remove(handle)


@pytest.mark.parametrize("size", [0, 2])
async def test_containers_do_not_reach_each_other(
    open_pool: Callable[..., object], shell: Shell, size: int
) -> None:
    async with open_pool(size) as runtime:
        driver = runtime.driver
        one = await driver.create(shell("exec nc -l -p 8000", name="one"))
        (address,) = (await driver.start(one)).addresses
        two = await running(driver, shell(f"nc -w 2 {address} 8000 </dev/null", name="two"))
        assert await driver.wait(two) != Exit(code=0)
        for handle in (one, two):
            await driver.remove(handle)


async def test_more_containers_than_are_ready_start_all_the_same(
    open_pool: Callable[..., object], shell: Shell, owner: str, left_of: Left
) -> None:
    async with open_pool(2) as runtime:
        handles = list[Handle]()

        async def start(number: int) -> None:
            handles.append(await running(runtime.driver, shell(name=f"c{number}")))

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(start, number)
        addresses = [f.attachment.addresses for f in await runtime.driver.survey() if f.attachment]
        assert len(set(addresses)) == 6
        for handle in handles:
            await runtime.driver.remove(handle)
    assert left_of(owner) == ([], [])


async def test_what_a_killed_worker_left_is_used_by_nobody_and_removed(
    open_pool: Callable[..., object], docker: Docker, owner: str, left_of: Left
) -> None:
    label = f"longshore.owner={owner}"
    stale = docker.run(
        *("run", "--detach", "--label", label, "--label", "longshore.role=network"),
        *("--name", f"longshore-network-{owner[:10]}", images.BUSYBOX.reference, "sleep", "1000"),
    )
    async with open_pool(1):
        await eventually(
            lambda: not docker.run("ps", "--quiet", "--no-trunc", "--filter", f"id={stale}")
        )
    assert left_of(owner) == ([], [])


async def test_a_holder_whose_container_was_removed_by_somebody_goes_too(
    open_pool: Callable[..., object], docker: Docker, shell: Shell, holders: Callable[[], int]
) -> None:
    async with open_pool(1) as runtime:
        handle = await running(runtime.driver, shell())
        await eventually(lambda: holders() == 2)
        docker.run("rm", "--force", f"indexify-{handle.id}")
        await eventually(lambda: holders() == 1)


async def test_a_namespace_that_may_have_a_container_is_given_to_nobody_else(
    open_pool: Callable[..., object],
    docker: Docker,
    shell: Shell,
    owner: str,
    left_of: Left,
    tmp_path: Path,
) -> None:
    lost = shell(name="lost")
    found = anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if f"name=indexify-{lost.id}" in exchange.query:
            await exchange.lose_answer()
        elif found.is_set() or f"indexify-{lost.id}" not in exchange.request:
            await exchange.forward()

    def network(spec: ContainerSpec) -> str:
        format_ = ("--format", "{{.HostConfig.NetworkMode}}")
        return docker.run("inspect", f"indexify-{spec.id}", *format_)

    path = docker.address.removeprefix("unix://")
    async with (
        between(tmp_path / "between", engine, path) as address,
        open_pool(1, address=address) as runtime,
    ):
        with pytest.raises(EngineUnavailable):
            await runtime.driver.create(lost)
        handle = await running(runtime.driver, shell(name="next"))
        assert network(lost).startswith("container:")
        assert network(lost) != network(shell(name="next"))
        found.set()
        for each in (Handle(id=lost.id), handle):
            await runtime.driver.remove(each)
    assert left_of(owner) == ([], [])


async def test_a_network_that_somebody_removed_is_made_again(
    open_driver: Callable[..., object], docker: Docker, shell: Shell, owner: str, left_of: Left
) -> None:
    async with open_driver() as runtime:
        handle = await runtime.driver.create(shell())
        _, (network,) = left_of(owner)
        # As `docker network prune` does while nobody runs in it.
        docker.run("network", "rm", network)
        assert (await runtime.driver.start(handle)).addresses
        await runtime.driver.remove(handle)


async def test_many_come_and_go_with_networks_that_come_and_go_one_by_one(
    open_pool: Callable[..., object],
    docker: Docker,
    owner: str,
    shell: Shell,
    left_of: Left,
    tmp_path: Path,
) -> None:
    holders, under_way, most = set[str](), set[str](), [0]

    async def engine(exchange: Exchange) -> None:
        method, path = exchange.request.split(" ")
        words = path.split("/")
        moves = (method == "POST" and words[-1] == "start") or method == "DELETE"
        if not (moves and (words[2] in holders or words[2].startswith("longshore-network-"))):
            await exchange.forward()
            return
        under_way.add(path)
        most[0] = max(most[0], len(under_way))
        try:
            answer = await exchange.engines_answer()
        finally:
            # Before it is told: who hears of it may begin the next at once.
            under_way.discard(path)
        await exchange.send(answer)

    def mode(spec: ContainerSpec) -> str:
        return docker.run(
            "inspect", f"indexify-{spec.id}", "--format", "{{.HostConfig.NetworkMode}}"
        )

    path = docker.address.removeprefix("unix://")
    specs = [shell(name=f"many{number}") for number in range(6)]
    async with (
        between(tmp_path / "between", engine, path) as address,
        open_pool(1, address=address) as runtime,
    ):
        async with anyio.create_task_group() as tasks:
            for spec in specs:
                tasks.start_soon(running, runtime.driver, spec)
        modes = {mode(spec) for spec in specs}
        assert len(modes) == len(specs)
        holders.update(each.removeprefix("container:") for each in modes)
        assert all(each.startswith("container:") for each in modes)
        async with anyio.create_task_group() as tasks:
            for spec in specs:
                tasks.start_soon(runtime.driver.remove, Handle(id=spec.id))
    assert most[0] == 1
    assert left_of(owner) == ([], [])


async def test_a_network_is_not_taken_away_from_who_came_while_others_were_looked_at(
    open_pool: Callable[..., object],
    docker: Docker,
    shell: Shell,
    holders: Callable[[], int],
    tmp_path: Path,
) -> None:
    first, second = shell(name="first"), shell(name="second")
    armed, looks, wants, seen, made = (anyio.Event() for _ in range(5))

    async def engine(exchange: Exchange) -> None:
        if exchange.request == "GET /containers/json" and armed.is_set() and not looks.is_set():
            # What is there is looked at when the second has a network, and is not in it yet.
            looks.set()
            await wants.wait()
            answer = await exchange.engines_answer()
            seen.set()
            await made.wait()
            await exchange.send(answer)
        elif f"name=indexify-{second.id}" in exchange.query:
            wants.set()
            await seen.wait()
            await exchange.forward()
        else:
            await exchange.forward()

    path = docker.address.removeprefix("unix://")
    with anyio.fail_after(60):
        async with (
            between(tmp_path / "between", engine, path) as address,
            open_pool(1, address=address) as runtime,
        ):
            armed.set()
            await running(runtime.driver, first)
            await looks.wait()
            handle = await runtime.driver.create(second)
            made.set()
            # One more than for the two is ready again when all has been looked at.
            await eventually(lambda: holders() == 3)
            assert (await runtime.driver.start(handle)).addresses
            for each in (Handle(id=first.id), handle):
                await runtime.driver.remove(each)


async def test_a_holder_that_an_engine_fails_to_start_is_made_again(
    open_between: Callable[..., object],
    holders: Callable[[], int],
    owner: str,
    shell: Shell,
    left_of: Left,
) -> None:
    armed, refused = anyio.Event(), list[str]()

    async def engine(exchange: Exchange) -> None:
        starts = re.fullmatch("POST /containers/longshore-network-.*/start", exchange.request)
        if starts and armed.is_set() and len(refused) < 2:
            # As it was seen to say of one in hundreds, at busy times.
            refused.append(exchange.request)
            await exchange.answer({"message": "cannot start a stopped process: unknown"}, 500)
        else:
            await exchange.forward()

    async with open_between(engine, ready_networks=1) as runtime:
        await eventually(lambda: holders() == 1)
        armed.set()
        handles = [await running(runtime.driver, shell(name=name)) for name in ("one", "two")]
        for handle in handles:
            await runtime.driver.remove(handle)
    assert len(refused) == 2
    assert left_of(owner) == ([], [])


async def test_an_engine_that_is_too_busy_to_remove_is_asked_again(
    open_pool: Callable[..., object], docker: Docker, owner: str, left_of: Left, tmp_path: Path
) -> None:
    refused = set[str]()

    async def engine(exchange: Exchange) -> None:
        request = exchange.request
        if request.startswith("DELETE ") and request not in refused:
            refused.add(request)
            why = "has active endpoints" if "/networks/" in request else "is in progress"
            await exchange.answer({"message": why}, 403 if "/networks/" in request else 409)
        else:
            await exchange.forward()

    path = docker.address.removeprefix("unix://")
    async with (
        between(tmp_path / "between", engine, path) as address,
        open_pool(2, address=address),
    ):
        pass
    assert left_of(owner) == ([], [])
    assert {request.split("/")[1] for request in refused} == {"containers", "networks"}


@pytest.mark.parametrize("stands", ["DELETE /containers/.*", "POST /containers/.*/start"])
async def test_an_engine_that_stands_still_is_left_in_time_and_tidied_by_the_next_worker(
    open_between: Callable[..., object],
    open_driver: Callable[..., object],
    holders: Callable[[], int],
    owner: str,
    left_of: Left,
    monkeypatch: pytest.MonkeyPatch,
    stands: str,
) -> None:
    monkeypatch.setattr(longshore_docker, "_CLOSE_SECONDS", 2.0)
    armed, still = anyio.Event(), anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if armed.is_set() and re.fullmatch(stands, exchange.request):
            still.set()
            await anyio.sleep_forever()
        await exchange.forward()

    if stands.startswith("POST"):
        armed.set()
    async with open_between(engine, ready_networks=1):
        if armed.is_set():
            with anyio.fail_after(60):
                await still.wait()
        else:
            await eventually(lambda: holders() == 1)
            armed.set()
        began = anyio.current_time()
    # Each request alone is waited for for a minute.
    assert anyio.current_time() - began < 10
    assert left_of(owner) != ([], [])
    async with open_driver(ready_networks=1):
        pass
    assert left_of(owner) == ([], [])


async def test_without_a_network_there_is_none(
    open_driver: Callable[..., object], shell: Shell
) -> None:
    async with open_driver(network="none", ready_networks=2) as runtime:
        handle = await runtime.driver.create(shell("test ! -e /sys/class/net/eth0"))
        attachment = await runtime.driver.start(handle)
        assert (attachment.addresses, attachment.interface) == ((), None)
        assert await runtime.driver.wait(handle) == Exit(code=0)
        await runtime.driver.remove(handle)
