"""Every driver and plugin of ours keeps the laws that bind it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from longshore_core.testing import (
    DRIVER_LAWS,
    LAWS,
    Environment,
    Failed,
    Outcome,
    Passed,
    Profile,
    find_subject,
    in_profile,
    run_laws,
)

CORE = in_profile(DRIVER_LAWS, Profile.CORE)
REGISTRY = {"url": "localhost:5000", "repository": "a/b", "username": "u", "password": "hush"}


def broken(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.law.id: o.verdict.reason for o in outcomes if isinstance(o.verdict, Failed)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "least", "most_seconds"),
    [("fork_exec", 100, 180), ("null", 45, 60), ("reference", 60, 20)],
)
def test_a_driver_of_ours_conforms_in_time(name: str, least: int, most_seconds: float) -> None:
    outcomes = anyio.run(lambda: run_laws(name, CORE))
    assert broken(outcomes) == {}
    assert sum(isinstance(o.verdict, Passed) for o in outcomes) >= least
    unknown = {o.law.id for o in outcomes if isinstance(o.verdict, Environment)}
    assert unknown <= {"F2", "R2.3"}, "what only a driver with an engine can show"
    assert sum(outcome.seconds for outcome in outcomes) < most_seconds


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("network", "open", {}),
        ("registry", "static", REGISTRY),
        ("middleware", "cors", {}),
        ("middleware", "cors", {"allow_origins": ["https://app.example"]}),
        ("guest", "bare", {}),
        ("guest", "sandbox_daemon", {"start_timeout_secs": 3}),
    ],
)
def test_a_plugin_of_ours_conforms(kind: str, name: str, options: dict[str, Any]) -> None:
    subject = find_subject(name, options, kind=kind)
    outcomes = anyio.run(lambda: run_laws(subject, LAWS[kind]))
    assert broken(outcomes) == {}
