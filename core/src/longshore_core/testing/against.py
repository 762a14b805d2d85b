"""One law over two drivers: both keep it, and what happens in it is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longshore_core.testing.bench import Settings
from longshore_core.testing.law import Environment, Failed, Law, NotDeclared, Outcome, Verdict
from longshore_core.testing.run import run_law
from longshore_core.testing.subject import Subject
from longshore_core.testing.trace import difference


async def run_against(
    subject: Subject[Any], other: Subject[Any], law: Law[Any], settings: Settings
) -> Outcome:
    """The law's outcome over `subject`; failed as well when `other` fares otherwise.

    What one declares and the other does not is no difference: they have said so themselves.
    """
    ours = await run_law(subject, law, settings)
    if isinstance(ours.verdict, Failed):
        return ours
    theirs = await run_law(other, law, settings)
    return replace(ours, verdict=_compared(ours, subject.origin.name, theirs, other.origin.name))


def _compared(ours: Outcome, name: str, theirs: Outcome, other: str) -> Verdict:
    match ours.verdict, theirs.verdict:
        case NotDeclared(), NotDeclared():
            return ours.verdict
        case _, Failed(reason=reason):
            return Failed(message=f"{other} does not pass: {reason}")
        case NotDeclared(reason=reason), _:
            return NotDeclared(reason=f"{name} {reason}; of {other}: {theirs.verdict.word}")
        case _, NotDeclared(reason=reason):
            return NotDeclared(reason=f"{other} {reason}")
        case Environment(), Environment():
            return ours.verdict
        case Environment(reason=reason), _:
            return Failed(message=f"{other} passes, and of {name} nobody knows: {reason}")
        case _, Environment(reason=reason):
            return Failed(message=f"{other} does not pass: {reason}")
        case _:
            parting = difference(ours.trace, theirs.trace) if ours.law.traced else None
            if parting is None:
                return ours.verdict
            return Failed(message=f"{name} and {other} part at {parting}")
