"""What the worker knows of a driver's engine, and how it tells of pulls."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
import structlog
from longshore_core import PullProgress
from longshore_core._plugins.catalog import Installed
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core._worker.engine import EngineWatch, PullLog
from longshore_core.abc import Runtime
from longshore_core.testing.bench import bare_host
from longshore_core.testing.reference import Config, open_reference

MIB = 1 << 20
ORIGIN = Installed(group="g", name="reference", value="r", distribution="d", version="1.0")


@pytest.fixture
def anyio_backend(virtual_time):
    return virtual_time


async def test_it_follows_the_engine_away_and_back(tmp_path: Path) -> None:
    away = tmp_path / "away"
    config = Config(engine_away_file=away)
    async with (
        open_reference(config, bare_host("reference", "w/driver", tmp_path)) as runtime,
        anyio.create_task_group() as tasks,
    ):
        watch = EngineWatch(AdaptedDriver(runtime, ORIGIN))
        assert (watch.latest, watch.complaint) == (None, None)
        tasks.start_soon(watch.follow)
        await _until(lambda: watch.latest is not None)
        assert watch.complaint is None
        away.touch()
        await _until(lambda: watch.complaint is not None)
        assert str(away) in (watch.complaint or "")
        away.unlink()
        await _until(lambda: watch.complaint is None)
        assert watch.latest is not None
        assert watch.latest.engine == "Model 1.0"
        tasks.cancel_scope.cancel()


async def test_of_a_driver_that_tells_nothing_nothing_is_known(tmp_path: Path) -> None:
    host = bare_host("reference", "w/driver", tmp_path)
    async with open_reference(Config(), host) as runtime:
        bare = Runtime(driver=runtime.driver, facts=runtime.facts)
        watch = EngineWatch(AdaptedDriver(bare, ORIGIN))
        await watch.follow()
        assert (watch.latest, watch.complaint) == (None, None)


async def test_a_driver_that_breaks_off_is_asked_again() -> None:
    class Moody:
        asked = 0

        def fingerprints(self):
            self.asked += 1
            raise ZeroDivisionError

    moody = Moody()
    watch = EngineWatch(AdaptedDriver(Runtime(driver=moody, facts=None, health=moody), ORIGIN))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.follow)
        await _until(lambda: moody.asked == 3)
        tasks.cancel_scope.cancel()
    assert watch.complaint is None


def test_a_pull_is_told_of_every_few_seconds() -> None:
    now = 0.0
    with structlog.testing.capture_logs() as told:
        pull = PullLog("c1", lambda: now)
        for second in range(12):
            now = float(second)
            done, total = second * MIB, 11 * MIB if second else None
            pull(PullProgress(reference="app:1", done_bytes=done, total_bytes=total))
    seen = [(one["done_mib"], one.get("total_mib")) for one in told]
    assert seen == [(0, None), (5, 11), (10, 11)]
    assert {(one["container_id"], one["image"]) for one in told} == {("c1", "app:1")}


async def _until(condition) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.sleep(0.1)
