"""What must hold of the worker over a driver that fails at random."""

from __future__ import annotations

import os
from typing import Final

from longshore_core.testing.bench import Bench
from longshore_core.testing.chaos import chaos_runs, unwatched
from longshore_core.testing.expect import expect
from longshore_core.testing.law import Group, Law, Profile, laws_in

RUNS: Final = int(os.environ.get("LONGSHORE_CHAOS_RUNS") or 300)
"""How many seeds; 10000 is the long profile."""

CHAOS: Final[Group[Bench]] = Group("chaos", profiles=frozenset({Profile.CHAOS}))


@CHAOS.law("C1", seconds=120 + 3 * RUNS)
async def nothing_is_orphaned_doubled_or_lost_whatever_fails(bench: Bench) -> None:
    lacks = unwatched(bench.thing)
    bench.need(lacks is None, f"{lacks}")
    first = bench.settings.seed * RUNS + 1
    results = await chaos_runs(bench.subject, range(first, first + RUNS))
    bench.record("runs", len(results))
    bench.record("workers", sum(result.workers for result in results))
    bench.record("faults", sum(result.struck for result in results))
    failed = [str(result) for result in results if result.problems]
    expect(not failed, "\n".join(failed))


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
