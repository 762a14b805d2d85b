"""How fast it is. Numbers for the report; only what is hopeless fails."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Final

from longshore_core.testing.bench import Bench, every
from longshore_core.testing.expect import expect
from longshore_core.testing.law import SOCKETS, Group, Law, Profile, laws_in
from longshore_core.testing.programs import FOREVER

PERF: Final[Group[Bench]] = Group("perf", profiles=frozenset({Profile.PERF}))

_HOPELESS_SECONDS: Final = 10.0


@PERF.law("B1", seconds=120)
async def one_container_after_the_other_starts_soon(bench: Bench) -> None:
    took = list[float]()
    for number in range(20):
        began = time.perf_counter()
        await bench.running(f"c{number}", FOREVER)
        took.append(time.perf_counter() - began)
    _record(bench, "start", took)


@PERF.law("B2", seconds=120)
async def a_burst_of_containers_starts_soon(bench: Bench) -> None:
    began = time.perf_counter()
    await every([partial(bench.running, f"c{number}", FOREVER) for number in range(20)])
    took = time.perf_counter() - began
    bench.record("burst_of_20_seconds", took)
    expect(took < 3 * _HOPELESS_SECONDS, f"twenty at once took {took:.1f} s")


@PERF.law("B3", requires=(SOCKETS,), seconds=120)
async def a_program_answers_soon(bench: Bench) -> None:
    sandbox, took = await bench.sandbox(), list[float]()
    for _ in range(50):
        began = time.perf_counter()
        await sandbox.run("true")
        took.append(time.perf_counter() - began)
    _record(bench, "exec", took)


@PERF.law("B4", requires=(SOCKETS,), seconds=120)
async def output_streams_fast(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    done = await sandbox.run_quietly("head", "-c", str(64 << 20), "/dev/zero")
    began = time.perf_counter()
    again = await sandbox.output(done.pid)
    bench.record("stream_mib_per_second", 64 / (time.perf_counter() - began))
    expect(len(again) == 64 << 20, "not all of it came")


@PERF.law("B5", seconds=120)
async def removal_is_fast(bench: Bench) -> None:
    handles = [await bench.running(f"c{number}", FOREVER) for number in range(20)]
    took = list[float]()
    for handle in handles:
        began = time.perf_counter()
        await bench.driver.remove(handle)
        took.append(time.perf_counter() - began)
    _record(bench, "remove", took)


def _record(bench: Bench, name: str, took: list[float]) -> None:
    bench.record(f"{name}_median_seconds", statistics.median(took))
    bench.record(f"{name}_worst_seconds", max(took))
    expect(max(took) < _HOPELESS_SECONDS, f"{name} took {max(took):.1f} s")


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
