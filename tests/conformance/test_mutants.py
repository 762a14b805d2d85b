"""Tests for the laws: each mutant is caught by the law that it names, and by no accident."""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import longshore_core.testing.golden
import pytest
from longshore_core._machine.life import Container, Event, Woken
from longshore_core._machine.step import Step, step
from longshore_core.testing import (
    DRIVER_LAWS,
    Failed,
    Law,
    Outcome,
    Passed,
    Settings,
    find_subject,
    run_laws,
)
from longshore_core.testing import LAWS as LAWS_OF_KINDS
from longshore_core.testing.bench import Bench

from tests.conformance.engine import FileEngine
from tests.conformance.mutants import MUTANTS

LAWS = {law.id: law for law in DRIVER_LAWS}
OF_KINDS = {kind: {law.id: law for law in laws} for kind, laws in LAWS_OF_KINDS.items()}
OF_AN_ENGINE = ("F1.4", "F2", "F2.2", "R2.3")
OLD_HANDLES = Path(longshore_core.testing.golden.__path__[0], "reference")
"""Most mutants are the reference, and what it has left they must understand, too."""
PATIENCE = 8.0
"""Of mutants that never answer: there is no use in waiting for as long as a law would."""
NEVER = "was not done within"


def judged(
    plug, law: Law[Bench], tmp_path: Path, kind: str = "driver", seconds: float = math.inf
) -> Outcome:
    away = tmp_path / "away"
    options = {"engine_away_file": str(away)} if law.id in OF_AN_ENGINE else {}
    engine = FileEngine(away)
    settings = Settings(engine=engine, image="example/image:1", golden=OLD_HANDLES)
    subject = find_subject(plug, options, kind=kind)
    patient = replace(law, seconds=min(law.seconds, seconds))
    (outcome,) = anyio.run(lambda: run_laws(subject, [patient], settings=settings))
    return outcome


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_caught_by_the_law_that_it_names_and_for_what_it_does(
    name: str, tmp_path: Path, require: Callable[[object, str], None]
) -> None:
    mutant = MUTANTS[name]
    for program in mutant.needs:
        require(os.geteuid() == 0 and shutil.which(program), f"{program}, used by root")
    law = OF_KINDS[mutant.kind][mutant.law]
    seconds = PATIENCE if mutant.why == NEVER else math.inf
    try:
        outcome = judged(mutant.plug, law, tmp_path, mutant.kind, seconds)
    finally:
        mutant.clean()
    assert isinstance(outcome.verdict, Failed), f"{name} has survived {mutant.law}: {outcome}"
    assert re.search(mutant.why, outcome.verdict.reason), outcome.verdict.reason


def test_there_are_mutants_enough_and_of_every_group_that_a_driver_can_break() -> None:
    drivers = [mutant for mutant in MUTANTS.values() if mutant.kind == "driver"]
    assert len(drivers) >= 80
    caught = {LAWS[mutant.law].group for mutant in drivers}
    alone = {"files", "snap", "perf", "chaos"}  # those of the guest, numbers, and chaos
    assert caught >= {law.group for law in DRIVER_LAWS} - alone


@pytest.mark.parametrize("kind", ["network", "registry", "middleware", "guest"])
def test_each_law_of_the_other_kinds_catches_somebody(kind: str) -> None:
    caught = {mutant.law for mutant in MUTANTS.values() if mutant.kind == kind}
    # Those of describing itself are the same as for drivers.
    assert caught == {id_ for id_, law in OF_KINDS[kind].items() if law.group != "info"}


@pytest.mark.parametrize("id_", OF_AN_ENGINE)
def test_an_engine_that_goes_and_comes_is_survived_by_the_reference(id_: str, tmp_path) -> None:
    outcome = judged("reference", LAWS[id_], tmp_path)
    assert isinstance(outcome.verdict, Passed), outcome.verdict


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [("early", "its state at .* expected 'Running'"), ("late", "expected 'Stopping'")],
)
def test_a_machine_that_errs_after_many_lives_is_caught_by_the_race(
    wrong: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = itertools.count(1)

    def errs(container: Container, event: Event, now: float, grace: float) -> Step:
        if next(turns) >= 900 and isinstance(event, Woken):
            now += {"early": 1000.0, "late": -1000.0}[wrong]
        return step(container, event, now, grace)

    monkeypatch.setattr("longshore_core.testing.laws.ttl.step", errs)
    outcome = judged("reference", LAWS["T1.3"], tmp_path)
    assert isinstance(outcome.verdict, Failed), outcome.verdict
    assert re.search(complaint, outcome.verdict.reason), outcome.verdict.reason
