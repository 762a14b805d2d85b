"""What containers use, where the driver's engine measures it."""

from __future__ import annotations

from signal import SIGKILL
from typing import Final

from longshore_core._model import Limit, Limits
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, eventually, expect, refused
from longshore_core.testing.law import LIMITS, SOCKETS, USAGE, Group, Law, laws_in
from longshore_core.testing.laws.life import ending
from longshore_core.testing.programs import FOREVER

METER: Final[Group[Bench]] = Group("limits", requires=(USAGE,))

_LIMIT: Final = 64 << 20


@METER.law("M5")
async def what_runs_uses_something(bench: Bench) -> None:
    usage = await bench.driver.usage(await bench.running("c", FOREVER))
    measured = (usage.cpu_seconds, usage.memory_bytes, usage.pids)
    expect(any(each is not None for each in measured), "nothing was measured")
    expect(all(each is None or each >= 0 for each in measured), f"less than nothing: {usage}")
    expect(usage.pids is None or usage.pids >= 1, f"it runs, with {usage.pids} processes")
    expect(usage.memory_bytes != 0, "it runs in no memory at all")


@METER.law("M5.2", requires=(SOCKETS,))
async def work_shows_in_the_time_that_it_took(bench: Bench) -> None:
    handle = await bench.running("c", "while :; do :; done")
    first = (await bench.driver.usage(handle)).cpu_seconds
    if first is None:
        return
    worked = first

    async def has_grown() -> bool:
        nonlocal worked
        last, worked = worked, (await bench.driver.usage(handle)).cpu_seconds or 0.0
        expect(worked >= last, f"its time went back from {last} s to {worked} s")
        return worked > first + 0.1

    await eventually(has_grown, "a busy program uses time")


@METER.law("M5.3", requires=(LIMITS[Limit.MEMORY],))
async def a_limit_shows_in_what_is_used(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER, limits=Limits(memory_bytes=_LIMIT))
    used = (await bench.driver.usage(handle)).memory_bytes
    expect(used is None or used <= _LIMIT, f"it uses {used} bytes of {_LIMIT}")


@METER.law("M5.4", traced=True)
async def what_does_not_run_has_no_usage(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    await refused(bench.driver.usage(handle), "the usage of what was not started")
    await bench.driver.start(handle)
    await bench.driver.signal(handle, SIGKILL)
    await ending(bench, handle)
    await refused(bench.driver.usage(handle), "the usage of what has ended")
    await bench.driver.remove(handle)
    await refused(bench.driver.usage(handle), "the usage of what was removed")
    equal(await bench.found("c"), None, "what there is of it")


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
