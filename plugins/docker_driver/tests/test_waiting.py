"""Waiting: for as long as the config says, and by one connection for all who wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from signal import SIGKILL

import anyio
import pytest
from longshore_core import BackendError, ContainerSpec, EngineUnavailable, Exit, Phase

from tests.engines.between import Exchange

Opener = Callable[..., object]
Shell = Callable[..., ContainerSpec]
WAITERS = 20


async def test_all_who_wait_share_one_stream_of_events_and_no_thread_waits(
    open_between: Opener, shell: Shell
) -> None:
    asked = list[str]()

    async def engine(exchange: Exchange) -> None:
        if "until" not in exchange.query:  # of what has been, not of what comes
            asked.append(exchange.request)
        await exchange.forward()

    ends = list[Exit]()
    async with open_between(engine) as runtime:
        driver = runtime.driver
        handles = [await driver.create(shell("sleep 100", name=f"c{n}")) for n in range(2)]
        for handle in handles:
            await driver.start(handle)
        threads = threading.active_count()

        async def wait(number: int) -> None:
            ends.append(await driver.wait(handles[number % 2]))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(WAITERS):
                    tasks.start_soon(wait, number)
                await anyio.wait_all_tasks_blocked()
                for handle in handles:
                    await driver.signal(handle, SIGKILL)
        for handle in handles:
            await driver.remove(handle)
    assert ends == [Exit(signal=SIGKILL)] * WAITERS
    assert asked.count("GET /events") == 1
    assert not [request for request in asked if request.endswith("/wait")]
    # Of those who ask, each for a moment, some are kept for the next.
    assert threading.active_count() - threads < WAITERS


async def test_a_start_that_takes_longer_than_the_config_says_is_given_up(
    open_between: Opener, shell: Shell
) -> None:
    hold = anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if exchange.request.endswith("/start") and not hold.is_set():
            await hold.wait()
        await exchange.forward()

    async with open_between(engine, startup_timeout_seconds=3.0) as runtime:
        driver = runtime.driver
        handle = await driver.create(shell("sleep 100"))
        with (
            anyio.fail_after(20),
            pytest.raises(EngineUnavailable, match="takes too long to start"),
        ):
            await driver.start(handle)
        assert [found.phase for found in await driver.survey()] == [Phase.CREATED]
        hold.set()
        await driver.remove(handle)


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
        handle = await runtime.driver.create(shell("sleep 100"))
        await runtime.driver.start(handle)
        await runtime.pause.pause(handle)
        assert left == 0
        await runtime.pause.resume(handle)
        left = 100
        with pytest.raises(BackendError, match="unable to freeze"):
            await runtime.pause.pause(handle)
        await runtime.driver.remove(handle)
