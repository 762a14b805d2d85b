"""An engine that takes its time."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tests.engines.between import Exchange

Opener = Callable[..., object]
INFO = {"Architecture": "x86_64", "NCPU": 1, "MemTotal": 1 << 30}


async def test_an_engine_that_was_slow_is_soon_looked_at_again(open_scripted: Opener) -> None:
    may_answer, followed = anyio.Event(), anyio.Event()
    may_answer.set()

    async def info(exchange: Exchange) -> None:
        await may_answer.wait()
        await exchange.answer(INFO)

    async def events(exchange: Exchange) -> None:
        await exchange.begin()
        followed.set()
        await anyio.sleep_forever()

    async with open_scripted({"GET /info": info, "GET /events": events}) as runtime:
        # From now on, nothing happens that would be a reason to look.
        await followed.wait()
        await anyio.wait_all_tasks_blocked()
        may_answer = anyio.Event()
        with anyio.fail_after(5):
            async with runtime.health.fingerprints() as prints:
                first = await anext(prints)
                assert "does not answer within 0.8 s" in first.reason
                may_answer.set()
                assert (await anext(prints)).healthy


async def test_an_engine_that_is_busy_for_a_second_is_healthy(open_scripted: Opener) -> None:
    seconds, names = 0.0, list[str]()
    happens = anyio.Event()

    async def info(exchange: Exchange) -> None:
        await anyio.sleep(seconds)
        await exchange.answer(INFO)

    async def listed(exchange: Exchange) -> None:
        await exchange.answer([{"RepoTags": names}])

    async def events(exchange: Exchange) -> None:
        await exchange.begin()
        await happens.wait()
        await exchange.go_on({"Type": "image", "Action": "tag"})
        await anyio.sleep_forever()

    script = {"GET /info": info, "GET /images/json": listed, "GET /events": events}
    async with open_scripted(script) as runtime:
        async with runtime.health.fingerprints() as prints:
            assert (await anext(prints)).healthy
            seconds = 1.0
            names.append("x:1")
            happens.set()
            with anyio.fail_after(10):
                second = await anext(prints)
        assert (second.healthy, second.images) == (True, ("x:1",))
