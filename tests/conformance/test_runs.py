"""Every driver and plugin of ours keeps the laws that bind it, in time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from longshore_core.testing import (
    DRIVER_LAWS,
    LAWS,
    Environment,
    Failed,
    Law,
    Outcome,
    Passed,
    Profile,
    Settings,
    find_subject,
    in_profile,
    run_laws,
)

from tests.conformance import exclusive, executing
from tests.conformance.engine import FileEngine

SLOWED = 1.5
"""So much longer everything takes where all the processors are busy."""
CORE = in_profile(DRIVER_LAWS, Profile.CORE)
BESIDE = [law for law in DRIVER_LAWS if law.id.endswith(".engine")]
REGISTRY = {"url": "localhost:5000", "repository": "a/b", "username": "u", "password": "hush"}
OF_AN_ENGINE = {"F2", "R2.3"}
"""What only a driver with an engine that can be taken away can show."""
OF_A_GUEST_THAT_LISTENS = {"G3", "G4", "G5", "G6"}


def examined(source: Any, laws: Sequence[Law[Any]], away: Path) -> list[Outcome]:
    settings = Settings(image="example/image:1", engine=FileEngine(away))
    options = {"engine_away_file": str(away)} if source == "reference" else {}
    if source != "reference":
        settings = Settings()
    return anyio.run(lambda: run_laws(source, laws, options=options, settings=settings))


def broken(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.law.id: o.verdict.reason for o in outcomes if isinstance(o.verdict, Failed)}


def ids(outcomes: list[Outcome], kind: type) -> set[str]:
    return {outcome.law.id for outcome in outcomes if isinstance(outcome.verdict, kind)}


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "least", "most_seconds", "unknown"),
    [
        ("fork_exec", 115, 120, OF_AN_ENGINE),
        ("null", 55, 30, {"F2"}),
        ("reference", 90, 20, set[str]()),
    ],
)
def test_a_driver_of_ours_conforms_in_time(
    name: str, least: int, most_seconds: float, unknown: set[str], tmp_path: Path
) -> None:
    began = sum(os.times()[:4])
    outcomes = examined(name, CORE, tmp_path / "away")
    # Of the processors, ours and our children's: others use this machine, too, and its caches.
    took = (sum(os.times()[:4]) - began) / SLOWED
    assert broken(outcomes) == {}
    assert len(ids(outcomes, Passed)) >= least
    assert ids(outcomes, Environment) == unknown
    assert took < most_seconds


@pytest.mark.timeout(120)
def test_a_driver_that_runs_programs_beside_pid_1_keeps_their_laws(tmp_path: Path) -> None:
    outcomes = examined(executing.driver(), BESIDE, tmp_path / "away")
    assert broken(outcomes) == {}
    assert ids(outcomes, Passed) == {law.id for law in BESIDE}


@pytest.mark.timeout(120)
def test_two_workers_of_a_driver_are_not_of_one_owner_at_once(tmp_path: Path) -> None:
    laws = [law for law in CORE if law.id in {"R3", "R3.2"}]
    outcomes = examined(f"{exclusive.__name__}:driver", laws, tmp_path / "away")
    assert broken(outcomes) == {}
    assert ids(outcomes, Passed) == {"R3", "R3.2"}


@pytest.mark.timeout(120)
def test_what_a_driver_declares_passes_through_faulty(tmp_path: Path) -> None:
    laws = [law for law in CORE if law.group in {"images", "pause", "logs", "finger"}]
    options = {"wraps": {"type": "reference"}}
    settings = Settings(image="example/image:1")
    outcomes = anyio.run(lambda: run_laws("faulty", laws, options=options, settings=settings))
    assert broken(outcomes) == {}
    assert ids(outcomes, Passed) >= {"IM1", "U2", "LG1", "F1.2"}


@pytest.mark.parametrize(
    ("kind", "name", "options", "unknown"),
    [
        ("network", "open", {}, set[str]()),
        ("registry", "static", REGISTRY, set[str]()),
        ("middleware", "cors", {}, set[str]()),
        ("middleware", "cors", {"allow_origins": ["https://app.example"]}, set[str]()),
        ("guest", "bare", {}, OF_A_GUEST_THAT_LISTENS),
        ("guest", "sandbox_daemon", {"start_timeout_secs": 3}, set[str]()),
    ],
)
def test_a_plugin_of_ours_conforms(
    kind: str, name: str, options: dict[str, Any], unknown: set[str]
) -> None:
    subject = find_subject(name, options, kind=kind)
    outcomes = anyio.run(lambda: run_laws(subject, LAWS[kind]))
    assert broken(outcomes) == {}
    assert ids(outcomes, Environment) == unknown
    assert ids(outcomes, Passed) == {law.id for law in LAWS[kind]} - unknown
