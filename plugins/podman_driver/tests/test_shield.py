"""What is seen through to its end, and for how long."""

from __future__ import annotations

import anyio
import longshore_podman.shield
import pytest
from longshore_core import BackendError
from longshore_podman.shield import see_through


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)


@BOTH
async def test_what_it_comes_to_is_the_callers() -> None:
    async def answers() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    async def fails() -> int:
        await anyio.lowlevel.checkpoint()
        raise BackendError("no")

    assert await see_through(answers()) == 7
    with pytest.raises(BackendError, match="no"):
        await see_through(fails())


@BOTH
async def test_who_is_cancelled_waits_for_its_end() -> None:
    done = list[str]()
    may_end = anyio.Event()

    async def works() -> None:
        await may_end.wait()
        done.append("worked")

    async def asks() -> None:
        await see_through(works())
        await anyio.lowlevel.checkpoint()
        done.append("went on")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asks)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        may_end.set()
    assert done == ["worked"]


@BOTH
async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longshore_podman.shield, "HURRY_SECONDS", 0.05)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(see_through, anyio.sleep_forever())
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
