"""What a container may use. A limit that is declared holds; any other is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import anyio
from anyio import to_thread

from longshore_core._errors import UnsupportedCapability
from longshore_core._model import Exit, Limit, Limits
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import Broken, equal, expect, refused
from longshore_core.testing.law import LIMITS, PROGRAMS, SOCKETS, Check, Group, Law, laws_in
from longshore_core.testing.programs import FOREVER

LIMIT: Final[Group[Bench]] = Group("limits")

_MIB: Final = 1 << 20
_HOARD: Final = "h = bytearray({bytes})\nfor i in range(0, len(h), 4096): h[i] = 1\n"
_SPIN: Final = """
import time, sys
began, used = time.monotonic(), time.process_time()
while time.monotonic() - began < 1.5: pass
sys.exit(round(100 * (time.process_time() - used) / (time.monotonic() - began)))
"""
_LEAST_SHARE: Final = 10
"""Per cent of a core: of less, rounding and the last slice of time would be too much."""
_UNDISTURBED: Final = 97
"""Per cent of a core."""
_WANTED: Final = {
    Limit.CPU: Limits(cpu_millis=500),
    Limit.MEMORY: Limits(memory_bytes=64 * _MIB),
    Limit.DISK: Limits(disk_bytes=64 * _MIB),
    Limit.PIDS: Limits(pids=16),
}


def _refusal(limit: Limit) -> Check[Bench]:
    async def check(bench: Bench) -> None:
        before = await to_thread.run_sync(bench.view.look)
        spec = bench.spec("c", FOREVER, limits=_WANTED[limit])
        exc = await refused(bench.driver.create(spec), f"a limit of {limit}", UnsupportedCapability)
        expect(str(limit) in str(exc), f"the error does not name the limit: {exc}")
        equal(list(await bench.driver.survey()), [], "the survey after that")
        left = await bench.left_since(before)
        expect(not left, f"left by a create that was refused: {', '.join(left)}")

    check.__name__ = f"a_limit_of_{limit}_that_is_not_declared_is_refused_and_leaves_nothing"
    return check


def _not(limit: Limit, id_: str) -> Callable[[Check[Bench]], Law[Bench]]:
    return LIMIT.law(id_, requires_not=(LIMITS[limit],))


REFUSED_CPU: Final = _not(Limit.CPU, "M2.not")(_refusal(Limit.CPU))
REFUSED_MEMORY: Final = _not(Limit.MEMORY, "M1.not")(_refusal(Limit.MEMORY))
REFUSED_DISK: Final = _not(Limit.DISK, "M4.not")(_refusal(Limit.DISK))
REFUSED_PIDS: Final = _not(Limit.PIDS, "M3.not")(_refusal(Limit.PIDS))


@LIMIT.law("M1", requires=(PROGRAMS, LIMITS[Limit.MEMORY]))
async def running_out_of_memory_ends_it_and_is_told_from_a_kill(bench: Bench) -> None:
    end = await _python(bench, _HOARD.format(bytes=200 * _MIB), _WANTED[Limit.MEMORY])
    equal(end.oom, True, "`oom` of what used three times its memory")
    expect(end != Exit(code=0, oom=True), "it ended as if nothing had happened")


@LIMIT.law("M1.2", requires=(PROGRAMS, LIMITS[Limit.MEMORY]))
async def what_keeps_to_its_memory_is_left_alone(bench: Bench) -> None:
    end = await _python(bench, _HOARD.format(bytes=16 * _MIB), _WANTED[Limit.MEMORY])
    equal(end, Exit(code=0), "the end of what used a quarter of its memory")


@LIMIT.law("M1.3", requires=(PROGRAMS, LIMITS[Limit.MEMORY]))
async def a_limit_of_memory_counts_all_that_it_has_started(bench: Bench) -> None:
    child = f"{_HOARD.format(bytes=40 * _MIB)}import time; time.sleep(3)"
    script = (
        "import subprocess, sys\n"
        f"kids = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(3)]\n"
        "sys.exit(max(abs(kid.wait()) for kid in kids))\n"
    )
    end = await _python(bench, script, _WANTED[Limit.MEMORY])
    expect(end != Exit(code=0), "three children used twice the memory, and nothing came of it")


@LIMIT.law("M2", requires=(PROGRAMS, LIMITS[Limit.CPU]))
async def a_limit_of_cores_holds(bench: Bench) -> None:
    """Within 15 %: what is less only where the machine would have given more."""
    free = await _spun(bench, Limits(), "free")
    bench.record("free_percent", free)
    # Not all that there is at this moment: else it were others who hold it back, and no limit.
    share = min(50, free // 2)
    bench.need(share >= _LEAST_SHARE, "a processor that others leave some time of")
    used = await _spun(bench, Limits(cpu_millis=share * 10), "held")
    expect(used <= share * 1.15 + 1, f"it used {used} % of a core, and was allowed {share}")
    enough = used >= share * 0.85 - 1
    expect(enough or free < _UNDISTURBED, f"it was given {used} % of a core, not {share}")


@LIMIT.law("M3", requires=(SOCKETS, LIMITS[Limit.PIDS]))
async def a_limit_of_processes_stops_what_multiplies(bench: Bench) -> None:
    script = (
        "import os, sys, time\n"
        "count = 0\n"
        "try:\n"
        "    while count < 100:\n"
        "        if os.fork() == 0: time.sleep(60); os._exit(0)\n"
        "        count += 1\n"
        "except OSError: sys.exit(count)\n"
        "sys.exit(101)\n"
    )
    end = await _python(bench, script, _WANTED[Limit.PIDS])
    expect(end.code is not None and 1 <= end.code <= 16, f"it has made {end.code} processes of 16")


@LIMIT.law("M4", requires=(SOCKETS, LIMITS[Limit.DISK]))
async def a_limit_of_disk_stops_what_fills_it(bench: Bench) -> None:
    sandbox = await bench.sandbox(limits=_WANTED[Limit.DISK])
    done = await sandbox.run("sh", "-c", "head -c 200000000 /dev/zero > big; wc -c < big; rm big")
    expect(int(done.stdout or b"0") < 100 * _MIB, f"it has written {done.stdout!r} bytes of 64 MiB")


@LIMIT.law("M1.4", requires=(PROGRAMS, LIMITS[Limit.MEMORY]))
async def the_limit_of_one_is_not_the_limit_of_another(bench: Bench) -> None:
    tight = await bench.running("tight", FOREVER, limits=_WANTED[Limit.MEMORY])
    end = await _python(bench, _HOARD.format(bytes=120 * _MIB), Limits(memory_bytes=400 * _MIB))
    equal(end, Exit(code=0), "the end of one with memory enough, beside one with little")
    await bench.driver.remove(tight)


async def _spun(bench: Bench, limits: Limits, name: str) -> int:
    """Per cent of a core that a program gets which takes what it can."""
    end = await _python(bench, _SPIN, limits, name)
    if end.code is None:
        raise Broken(f"what used a core has not ended by itself: {end}")
    return end.code


async def _python(bench: Bench, script: str, limits: Limits, name: str = "python") -> Exit:
    """The end of a Python program under limits."""
    program = "python3" if bench.facts.images else sys.executable
    spec = replace(bench.spec(name, "", limits=limits), argv=(program, "-c", script))
    handle = await bench.driver.create(spec)
    await bench.driver.start(handle)
    with anyio.fail_after(20):
        return await bench.driver.wait(handle)


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
