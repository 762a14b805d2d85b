"""One law over two drivers: both keep it, and what happens in it is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longshore_core.testing.bench import Settings
from longshore_core.testing.law import Failed, Law, NotDeclared, Outcome, Passed
from longshore_core.testing.run import run_law
from longshore_core.testing.subject import Subject
from longshore_core.testing.trace import difference


async def run_against(
    subject: Subject[Any], other: Subject[Any], law: Law[Any], settings: Settings
) -> Outcome:
    """The law's outcome over `subject`; failed as well when the two traces part."""
    ours = await run_law(subject, law, settings)
    if not isinstance(ours.verdict, Passed):
        return ours
    theirs = await run_law(other, law, settings)
    if isinstance(theirs.verdict, NotDeclared):
        reason = f"{other.origin.name} {theirs.verdict.reason}"
        return replace(ours, verdict=NotDeclared(reason=reason))
    if not isinstance(theirs.verdict, Passed):
        reason = f"{other.origin.name} does not pass: {theirs.verdict.reason}"
        return replace(ours, verdict=Failed(message=reason))
    parting = difference(ours.trace, theirs.trace) if law.traced else None
    if parting is None:
        return ours
    message = f"{subject.origin.name} and {other.origin.name} part at {parting}"
    return replace(ours, verdict=Failed(message=message))
