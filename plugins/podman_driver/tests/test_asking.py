"""What the engine is asked, and what it is not asked again: nothing that it tells is missed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from signal import SIGKILL

import anyio
import anyio.to_thread
import longshore_podman.recent
import pytest
from longshore_core import ContainerSpec, Exit, UnsupportedCapability

from tests.engines.between import Exchange
from tests.engines.podman import Podman

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]


async def test_an_end_that_is_told_while_the_engine_answers_is_not_missed(
    open_between: Opener, podman: Podman, shell: Shell
) -> None:
    held, has_ended, may_answer = anyio.Event(), anyio.Event(), anyio.Event()
    holds = False
    full_id = ""
    ends: list[Exit] = []

    async def engine(exchange: Exchange) -> None:
        nonlocal holds
        if exchange.request.endswith("/events") and "stream=true" in exchange.query:
            await exchange.begin()
            await has_ended.wait()
            # Once, and nothing after it.
            await exchange.go_on({"Type": "container", "Actor": {"ID": full_id}})
            await anyio.sleep_forever()
        elif holds and exchange.request.endswith("/json") and "/containers/" in exchange.request:
            holds = False
            answer = await exchange.engines_answer()
            held.set()
            await may_answer.wait()
            await exchange.send(answer)
        else:
            await exchange.forward()

    async with open_between(engine) as runtime, anyio.create_task_group() as tasks:
        handle = await runtime.driver.create(shell())
        await runtime.driver.start(handle)
        name = f"indexify-{handle.id}"
        full_id = podman.run("inspect", "--format", "{{.Id}}", name).strip()

        async def learn() -> None:
            ends.append(await runtime.driver.wait(handle))

        tasks.start_soon(learn)
        await anyio.wait_all_tasks_blocked()
        holds = True
        tasks.start_soon(learn)
        with anyio.fail_after(30):
            await held.wait()
            await anyio.to_thread.run_sync(podman.run, "kill", name)
            await anyio.to_thread.run_sync(podman.run, "wait", name)
            has_ended.set()
            while not ends:
                await anyio.sleep(0.01)
            # What the other one is told was true before, and it has heard of nothing since.
            may_answer.set()
            while len(ends) < 2:
                await anyio.sleep(0.01)
        assert ends == [Exit(signal=SIGKILL)] * 2
        await runtime.driver.remove(handle)


@pytest.mark.parametrize(("seconds", "looks"), [(math.inf, 1), (0.0, 2)])
async def test_an_image_that_was_just_found_is_not_looked_for_again(
    open_between: Opener,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    looks: int,
) -> None:
    monkeypatch.setattr(longshore_podman.recent, "SECONDS", seconds)
    asked: list[str] = []

    async def engine(exchange: Exchange) -> None:
        if "busybox" in exchange.request and "/images/" in exchange.request:
            asked.append(exchange.request)
        await exchange.forward()

    async with open_between(engine) as runtime:
        spec = shell()
        assert runtime.images is not None
        await runtime.images.ensure(spec.image, lambda _: None)
        handle = await runtime.driver.create(spec)
        once = len(asked)
        other = await runtime.driver.create(shell(name="other"))
        assert (once, len(asked)) == (looks, looks + 1)
        for each in (handle, other):
            await runtime.driver.remove(each)


async def test_a_runtime_that_the_engine_drops_is_refused(
    open_driver: Opener, podman: Podman, shell: Shell
) -> None:
    """Podman 4.3 drops it without a word; where it is not dropped, it is what was asked for."""
    async with open_driver(runtime="crun") as runtime:
        refused = contextlib.nullcontext()
        if podman.run("version", "--format", "{{.Server.Version}}").startswith("4.3."):
            refused = pytest.raises(UnsupportedCapability, match=r"and not with crun \(driver\.")
        with refused:
            handle = await runtime.driver.create(shell())
            name = f"indexify-{handle.id}"
            assert podman.run("inspect", "--format", "{{.OCIRuntime}}", name) == "crun"
            await runtime.driver.remove(handle)
        assert await runtime.driver.survey() == []


async def test_the_engines_own_runtime_may_be_asked_for(
    open_driver: Opener, podman: Podman, shell: Shell
) -> None:
    own = podman.run("info", "--format", "{{.Host.OCIRuntime.Name}}")
    async with open_driver(runtime=own) as runtime:
        handle = await runtime.driver.create(shell())
        await runtime.driver.start(handle)
        await runtime.driver.remove(handle)
