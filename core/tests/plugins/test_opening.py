"""A backend is entered once and left once, whatever it holds open and whatever goes wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pluggy
import pytest
from longshore_core import Attachment, ConfigError, EngineUnavailable, Host, Plug, PluginCrash
from longshore_core._plugins import opening
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.hooks import Loaded, Selected
from longshore_core._plugins.opening import opened
from longshore_core._worker.transitions import Transitions
from pydantic import BaseModel

ORIGIN = Installed(group="g", name="acme", value="acme", distribution="acme", version="1.0")


class Config(BaseModel):
    size: int = 1


@pytest.fixture
def use(tmp_path: Path):
    """Open a backend as the worker would."""

    def use(backend: Callable[[], AbstractAsyncContextManager[object]], **options: object):
        plug = Plug(config=Config, open=lambda _config, _host: backend())
        loaded = Loaded(origin=ORIGIN, manager=pluggy.PluginManager("longshore"))
        host = Host(
            name="acme",
            owner="o",
            state_dir=tmp_path,
            logger=logging.getLogger("acme"),
            transitions=Transitions().subscribe,
        )
        return opened(Selected(loaded=loaded, plug=plug), options, host, "driver")

    return use


class Backend:
    """Notes what happens to it, and has a task of its own."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.broken = anyio.Event()

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[str]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._work)
            self.story.append("open")
            try:
                yield "the thing"
            finally:
                self.story.append("closing")
                await anyio.sleep(0)
                self.story.append("closed")
                tasks.cancel_scope.cancel()

    async def _work(self) -> None:
        await self.broken.wait()
        raise EngineUnavailable("the engine's events have ended")


async def test_a_backend_may_hold_a_task_group_open(use) -> None:
    backend = Backend()
    async with use(backend) as thing:
        assert thing == "the thing"
        assert backend.story == ["open"]
    assert backend.story == ["open", "closing", "closed"]


async def test_it_is_left_in_order_when_its_user_fails(use) -> None:
    backend = Backend()
    with pytest.raises(ZeroDivisionError):
        async with use(backend):
            raise ZeroDivisionError
    assert backend.story == ["open", "closing", "closed"]


async def test_it_is_left_in_order_when_its_user_is_cancelled(use) -> None:
    backend = Backend()
    with anyio.move_on_after(0.01):
        async with use(backend):
            await anyio.sleep_forever()
    assert backend.story == ["open", "closing", "closed"]


async def test_two_are_left_in_the_other_order(use) -> None:
    first, second = Backend(), Backend()
    async with use(first), use(second):
        second.story = first.story
    assert first.story == ["open", *["closing", "closed"] * 2]


async def test_a_task_of_its_own_that_fails_ends_its_user_with_the_reason(use) -> None:
    backend = Backend()
    backend.broken.set()
    with pytest.raises(EngineUnavailable, match="the engine's events have ended"):
        async with use(backend):
            await anyio.sleep(5)


async def test_one_that_ends_by_itself_is_a_crash(use) -> None:
    @asynccontextmanager
    async def fickle() -> AsyncGenerator[None]:
        with anyio.move_on_after(0.01):
            yield

    with pytest.raises(PluginCrash) as caught:
        async with use(fickle):
            await anyio.sleep(5)
    assert str(caught.value) == "plugin acme (acme 1.0): ended by itself"


async def test_an_error_on_the_way_out_is_logged_and_harms_nobody(use) -> None:
    @asynccontextmanager
    async def messy() -> AsyncGenerator[None]:
        yield
        raise ZeroDivisionError

    async with use(messy):
        pass


async def test_one_that_does_not_open_or_close_in_time_is_not_waited_for(use, monkeypatch) -> None:
    monkeypatch.setattr(opening, "OPEN_SECONDS", 0.02)
    monkeypatch.setattr(opening, "CLOSE_SECONDS", 0.02)

    @asynccontextmanager
    async def slow() -> AsyncGenerator[None]:
        await anyio.sleep(10)
        yield

    @asynccontextmanager
    async def clinging() -> AsyncGenerator[None]:
        yield
        await anyio.sleep(10)

    with anyio.fail_after(5):
        with pytest.raises(PluginCrash, match=r"was not open within 0.02 seconds"):
            async with use(slow):
                pytest.fail("it opened")
        async with use(clinging):
            pass


async def test_cancelled_while_it_opens_it_is_not_waited_for(use) -> None:
    @asynccontextmanager
    async def slow() -> AsyncGenerator[None]:
        await anyio.sleep(60)
        yield

    with anyio.fail_after(5), anyio.move_on_after(0.01):
        async with use(slow):
            pytest.fail("it opened")


async def test_its_section_is_checked_before_it_opens(use) -> None:
    backend = Backend()
    with pytest.raises(ConfigError, match=r"^driver\.size: "):
        async with use(backend, size="large"):
            pytest.fail("it opened")
    assert backend.story == []


def test_what_a_driver_answers_with_is_what_the_next_worker_reads() -> None:
    adapted = opening.AdaptedDriver(runtime=None, origin=ORIGIN)  # type: ignore[arg-type]
    attachment = Attachment(addresses=("10.0.0.1",), interface="veth1")
    assert adapted._checked(attachment, Attachment, "start") == attachment
    for wrong in (Attachment(addresses=(1,)), Attachment(reach="/x"), Attachment(netns="\udcff")):
        with pytest.raises(opening.PluginContractError, match="a Attachment that cannot be"):
            adapted._checked(wrong, Attachment, "start")
