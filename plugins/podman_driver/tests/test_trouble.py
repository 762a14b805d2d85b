"""An engine that fails now and then, and a host that is started again: nothing is lost or left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM

import anyio
import anyio.to_thread
import longshore_podman.driver
import longshore_podman.recent
import longshore_podman.shield
import pytest
from longshore_core import BackendError, ContainerSpec, EngineUnavailable, Exit, Host, Phase
from longshore_core.abc import Driver

from tests.engines.between import Exchange
from tests.engines.podman import Podman

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]


def namespaces(bridge: str) -> set[str]:
    there = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    return {name for name in there if name.startswith(bridge)}


async def running(driver: Driver, spec: ContainerSpec) -> tuple[object, str]:
    """Its handle, and the name of its namespace."""
    handle = await driver.create(spec)
    attachment = await driver.start(handle)
    return handle, Path(attachment.netns or "").name


async def test_an_engine_that_dies_while_it_makes_a_container_leaves_nothing_on_the_host(
    open_between: Opener, host: Host, shell: Shell, bridge: str
) -> None:
    before, away, back = namespaces(bridge), anyio.Event(), anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if exchange.request.endswith("/containers/create"):
            away.set()
        if not away.is_set() or back.is_set():
            await exchange.forward()

    async with open_between(engine) as runtime:
        with pytest.raises(EngineUnavailable):
            await runtime.driver.create(shell())
        back.set()
        # The worker asks so, as it does not know whether there is something to be removed.
        assert await runtime.driver.survey() == []
        assert namespaces(bridge) == before
        assert list(host.state_dir.glob("*/sockets")) == []


async def test_what_was_left_by_a_worker_that_was_killed_meanwhile_goes_with_the_next(
    open_driver: Opener, host: Host, bridge: str
) -> None:
    before = namespaces(bridge)
    async with open_driver():
        pass
    place = host.state_dir / "left"
    (place / "sockets").mkdir(parents=True)
    (place / "owner").write_text(host.owner)
    (place / "network").write_text("7")
    async with open_driver() as runtime:
        assert await runtime.driver.survey() == []
        # By this survey, or by what the driver began when it was opened.
        with anyio.fail_after(10):
            while place.exists():
                await anyio.sleep(0.01)
    assert namespaces(bridge) == before


async def test_after_a_start_of_the_host_no_namespace_is_taken_for_an_old_one(
    open_driver: Opener, shell: Shell, bridge: str
) -> None:
    async with open_driver() as runtime:
        old, name = await running(runtime.driver, shell(name="old"))
        await runtime.driver.signal(old, SIGKILL)
        await runtime.driver.wait(old)
    # What the engine knows stays; what the kernel knew does not.
    subprocess.run(["ip", "netns", "del", name], check=True)
    before = namespaces(bridge)
    async with open_driver(ready_networks=1) as runtime:
        with anyio.fail_after(10):
            while not namespaces(bridge) - before:
                await anyio.sleep(0.01)
        await runtime.driver.remove(old)
        new, name = await running(runtime.driver, shell(name="new"))
        assert name in namespaces(bridge)
        await runtime.driver.remove(new)
    assert namespaces(bridge) == before


@pytest.mark.parametrize("status", [None, 500])
async def test_who_waits_learns_of_an_end_that_the_engine_could_not_speak_of_at_once(
    open_between: Opener,
    podman: Podman,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
) -> None:
    monkeypatch.setattr(longshore_podman.driver, "_AGAIN_SECONDS", 0.1)
    ended, unable = anyio.Event(), anyio.Event()

    async def engine(exchange: Exchange) -> None:
        looks = exchange.request.startswith("GET ") and exchange.request.endswith("/json")
        if not looks or not ended.is_set() or unable.is_set():
            await exchange.forward()
            return
        unable.set()
        if status is not None:
            await exchange.answer({"cause": "database is locked", "message": "no"}, status)

    exits = list[Exit]()
    async with open_between(engine) as runtime:
        handle, _ = await running(runtime.driver, shell())

        async def wait() -> None:
            exits.append(await runtime.driver.wait(handle))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                ended.set()
                await anyio.to_thread.run_sync(podman.run, "kill", f"indexify-{handle.id}")
        assert unable.is_set()
        assert exits == [Exit(signal=SIGKILL)]
        await runtime.driver.remove(handle)


async def test_many_who_ask_for_an_end_are_told_the_same(driver: Driver, shell: Shell) -> None:
    # Of an engine's word alone, this is taken for a signal: only who has watched knows better.
    handle, _ = await running(driver, shell("trap 'exit 137' TERM; while :; do sleep 0.05; done"))
    told = list[Exit | None]()

    async def wait() -> None:
        told.append(await driver.wait(handle))

    async def look() -> None:
        (found,) = await driver.survey()
        while found.phase is not Phase.EXITED:
            (found,) = await driver.survey()
        told.append(found.exit)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(wait)
            tasks.start_soon(look)
        await driver.signal(handle, SIGTERM)
    assert told == [Exit(code=137)] * 16
    await driver.remove(handle)


async def test_a_program_whose_start_is_cancelled_does_not_run(
    open_between: Opener, podman: Podman, shell: Shell
) -> None:
    asked = anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if "/exec/" in exchange.request and exchange.request.endswith("/start"):
            asked.set()
        await exchange.forward()

    def programs() -> list[str]:
        lines = podman.run("exec", f"indexify-{handle.id}", "ps", "-o", "args").splitlines()
        return [line for line in lines if "1234" in line]

    async with open_between(engine) as runtime:
        handle, _ = await running(runtime.driver, shell())

        async def run() -> None:
            async with runtime.exec.run(handle, ["sleep", "1234"], env={}):
                await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await asked.wait()
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(programs) == []
        await runtime.driver.remove(handle)


async def test_no_descriptor_is_left_of_a_container_that_somebody_else_removed(
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    before = pidfds()
    handle, _ = await running(driver, shell())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.wait, handle)
        await anyio.wait_all_tasks_blocked()
        assert pidfds() == before + 1
        await anyio.to_thread.run_sync(podman.run, "rm", "--force", f"indexify-{handle.id}")
    assert pidfds() == before
    await driver.remove(handle)


async def test_a_container_that_is_removed_while_it_is_looked_at_is_gone(
    open_between: Opener, podman: Podman, shell: Shell
) -> None:
    is_going = False

    async def engine(exchange: Exchange) -> None:
        looks = exchange.request.startswith("GET ") and exchange.request.endswith("c/json")
        if looks and is_going:
            said = {"cause": "no such container", "message": "it does not exist in database"}
            await exchange.answer(said, 500)
        else:
            await exchange.forward()

    async with open_between(engine) as runtime:
        handle, _ = await running(runtime.driver, shell())
        is_going = True
        with pytest.raises(BackendError, match="does not run, so that it cannot end"):
            await runtime.driver.wait(handle)
        is_going = False
        await runtime.driver.remove(handle)


async def test_one_that_somebody_removed_before_its_start_does_not_start_and_can_be_made_again(
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    handle = await driver.create(shell())
    await anyio.to_thread.run_sync(podman.run, "rm", "--force", f"indexify-{handle.id}")
    with pytest.raises(BackendError, match="no container"):
        await driver.start(handle)
    again, _ = await running(driver, shell())
    assert [found.phase for found in await driver.survey()] == [Phase.RUNNING]
    await driver.remove(again)


async def test_a_worker_of_another_name_in_the_same_directory_takes_nothing_away(
    driver: Driver, open_driver: Opener, host: Host, shell: Shell, bridge: str
) -> None:
    before = namespaces(bridge)
    handle, name = await running(driver, shell())
    async with open_driver(replace(host, owner=f"{host.owner}-2")) as other:
        assert await other.driver.survey() == []
    assert namespaces(bridge) - before == {name}
    await driver.remove(handle)
    assert namespaces(bridge) == before
    assert list(host.state_dir.iterdir()) == []


def pidfds() -> int:
    names = os.listdir("/proc/self/fd")
    links = [os.path.realpath(f"/proc/self/fd/{name}") for name in names]
    return sum(link.endswith("[pidfd]") for link in links)


@pytest.mark.parametrize("step", ["init", "start"])
async def test_a_start_that_takes_longer_than_the_config_says_is_given_up(
    open_between: Opener, shell: Shell, step: str
) -> None:
    hold = anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if exchange.request.endswith(f"/{step}") and not hold.is_set():
            await hold.wait()
        await exchange.forward()

    async with open_between(engine, startup_timeout_seconds=3.0) as runtime:
        driver = runtime.driver
        handle = await driver.create(shell())
        with anyio.fail_after(60), pytest.raises(EngineUnavailable, match="takes too long"):
            await driver.start(handle)
        assert [found.phase for found in await driver.survey()] == [Phase.CREATED]
        hold.set()
        await driver.remove(handle)
        assert await driver.survey() == []


async def test_a_start_that_hangs_does_not_hold_up_a_worker_that_stops(
    open_between: Opener, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longshore_podman.shield, "HURRY_SECONDS", 0.5)
    hold, asked = anyio.Event(), anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if exchange.request.endswith("/init"):
            asked.set()
            await hold.wait()
        await exchange.forward()

    async with open_between(engine) as runtime:
        handle = await runtime.driver.create(shell())
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runtime.driver.start, handle)
                await asked.wait()
                tasks.cancel_scope.cancel()
        hold.set()
        await runtime.driver.remove(handle)
        assert await runtime.driver.survey() == []


async def test_a_pause_that_the_kernel_did_not_manage_is_asked_for_again(
    open_between: Opener, shell: Shell
) -> None:
    left = 2

    async def engine(exchange: Exchange) -> None:
        nonlocal left
        if exchange.request.endswith("/pause") and left:
            left -= 1
            await exchange.answer({"cause": "frozen by chance", "message": "unable to freeze"}, 500)
        else:
            await exchange.forward()

    async with open_between(engine) as runtime:
        handle = await runtime.driver.create(shell())
        await runtime.driver.start(handle)
        await runtime.pause.pause(handle)
        assert left == 0
        await runtime.pause.resume(handle)
        left = 100
        with pytest.raises(BackendError, match="unable to freeze"):
            await runtime.pause.pause(handle)
        await runtime.driver.remove(handle)
