"""The laws that every driver keeps, against `acme` as it is installed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from longshore_core.testing import (
    DRIVER_LAWS,
    Environment,
    Law,
    NotDeclared,
    Passed,
    Profile,
    find_subject,
    in_profile,
    run_laws,
)

OPTIONS: dict[str, Any] = {}
"""What stands beside `type: acme` in the configuration, for these tests."""


@pytest.mark.parametrize("law", in_profile(DRIVER_LAWS, Profile.CORE), ids=lambda law: law.id)
def test_it_keeps_the_law(law: Law[Any]) -> None:
    subject = find_subject("acme", OPTIONS, kind="driver")
    (outcome,) = anyio.run(run_laws, subject, [law])
    if isinstance(outcome.verdict, NotDeclared | Environment):
        pytest.skip(f"{law.promise}: {outcome.verdict.reason}")
    assert isinstance(outcome.verdict, Passed), f"{law.promise}: {outcome.verdict.reason}"
