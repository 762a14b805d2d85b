"""One law over two drivers: where they fare alike, and where they part."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import anyio
import pytest
from longshore_core.testing import (
    DRIVER_LAWS,
    Environment,
    Failed,
    Law,
    NotDeclared,
    Outcome,
    Passed,
    Settings,
    find_subject,
)
from longshore_core.testing.against import run_against
from longshore_core.testing.bench import Bench
from longshore_core.testing.law import PROGRAMS, Verdict
from longshore_core.testing.trace import difference


def compared(ours: str, theirs: str, law: Law[Bench]) -> Outcome:
    return anyio.run(run_against, find_subject(ours), find_subject(theirs), law, Settings())


def test_two_drivers_that_answer_alike_are_told_so_and_others_where_they_part() -> None:
    law = next(law for law in DRIVER_LAWS if law.id == "L4.3")
    same = compared("reference", "null", law)
    assert same.verdict == Passed()
    assert difference(["a", "b"], ["a", "c"]) == "step 2: b, against c"
    assert difference(["a"], ["a", "c"]) == "step 2: (nothing more), against c"

    async def once_or_twice(bench: Bench) -> None:
        for _ in range(1 if bench.has_programs else 2):
            await bench.driver.survey()

    parting = Law(id="X1", group="x", check=once_or_twice, traced=True)
    other = compared("reference", "null", parting)
    assert other.verdict == Failed(
        message="reference and null part at step 2: (nothing more), against survey -> []"
    )


async def fares(bench: Bench, of_a_model: str, of_nothing: str) -> None:
    match of_a_model if bench.has_programs else of_nothing:
        case "environment":
            bench.need(None, "a moon")
        case "failed":
            raise AssertionError("the promise")
        case _:
            await bench.driver.survey()


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ("passed", "environment", Failed(message="null does not pass: missing: a moon")),
        (
            "environment",
            "passed",
            Failed(message="null passes, and of reference nobody knows: missing: a moon"),
        ),
        ("environment", "failed", Failed(message="null does not pass: the promise")),
        ("environment", "environment", Environment(missing="a moon")),
        ("failed", "passed", Failed(message="the promise")),
    ],
)
def test_a_difference_of_verdicts_is_seen_from_both_sides(
    ours: str, theirs: str, verdict: Verdict
) -> None:
    law = Law(id="X1", group="x", check=partial(fares, of_a_model=ours, of_nothing=theirs))
    assert compared("reference", "null", law).verdict == verdict


def test_what_one_does_not_declare_is_no_difference_from_either_side() -> None:
    async def passes(bench: Bench) -> None:
        await bench.driver.survey()

    async def breaks(bench: Bench) -> None:
        raise AssertionError("the promise")

    law = Law(id="X1", group="x", check=passes, requires=(PROGRAMS,))
    lacks = "null does not declare programs"
    assert compared("reference", "null", law).verdict == NotDeclared(reason=lacks)
    told = NotDeclared(reason=f"{lacks}; of reference: passed")
    assert compared("null", "reference", law).verdict == told
    broken = replace(law, check=breaks)
    failed = Failed(message="reference does not pass: the promise")
    assert compared("null", "reference", broken).verdict == failed
