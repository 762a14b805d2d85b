"""What a run has come to, as data and as tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter

from longshore_core.testing.catalogue import LAWS
from longshore_core.testing.law import KIT, Outcome, Profile, in_profile
from longshore_core.testing.subject import Subject

WORDS: Final = ("passed", "failed", "not declared", "environment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One law, and what came of it."""

    id: str
    group: str
    name: str
    verdict: str
    reason: str = ""
    seconds: float = 0.0
    measured: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def is_refusal(self) -> bool:
        """Whether it only says that what is not declared is refused."""
        return self.id.endswith(".not")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run over one plugin."""

    plugin: str
    distribution: str
    version: str
    profile: str
    asked: int
    """How many laws the profile has for such a plugin."""
    unexamined: tuple[str, ...]
    """Those of them that this run has not come to, or was not asked for."""
    kit: str = KIT
    lines: tuple[Line, ...] = ()

    @property
    def conforms(self) -> str:
        """The line to sign off with, which only a run over the whole profile has earned.

        Else it says what has failed, or how much was examined.
        """
        what = f"{self.plugin} ({self.distribution} {self.version})"
        if failed := [line.id for line in self.lines if line.verdict == "failed"]:
            return f"does not conform: {what} fails {', '.join(failed)}"
        against = f"{what}, kit {self.kit}, {self.profile}"
        unknown = sum(line.verdict == "environment" for line in self.lines)
        doubt = f", {unknown} unknown" if unknown else ""
        if self.unexamined:
            examined = self.asked - len(self.unexamined)
            return f"examined in part: {against}: {examined} of {self.asked} laws{doubt}"
        kept = [line for line in self.lines if line.verdict == "passed" and not line.is_refusal]
        return f"conforms: {against}: {' '.join(sorted({line.group for line in kept}))}{doubt}"


_REPORT: Final = TypeAdapter(Report)


def line_of(outcome: Outcome) -> Line:
    return Line(
        id=outcome.law.id,
        group=outcome.law.group,
        name=outcome.law.name,
        verdict=outcome.verdict.word,
        reason=outcome.verdict.reason,
        seconds=round(outcome.seconds, 3),
        measured=outcome.measured,
    )


def report_of(subject: Subject[Any], profile: Profile, lines: Sequence[Line]) -> Report:
    """What a run has come to, held against all laws of its profile."""
    asked = in_profile(LAWS[subject.kind], profile)
    examined = {line.id for line in lines}
    return Report(
        plugin=subject.origin.name,
        distribution=subject.origin.distribution,
        version=subject.origin.version,
        profile=profile,
        asked=len(asked),
        unexamined=tuple(law.id for law in asked if law.id not in examined),
        lines=tuple(lines),
    )


def to_json(report: Report) -> str:
    data = {**_REPORT.dump_python(report, mode="json"), "conforms": report.conforms}
    return json.dumps(data, indent=2) + "\n"


def from_json(text: str) -> Report:
    """Raises ValueError for what is no report."""
    data = json.loads(text)
    data.pop("conforms", None)
    return _REPORT.validate_python(data)


def matrix(reports: Sequence[Report]) -> str:
    """A Markdown table: groups of laws by plugins. A cell has what passed of what applies."""
    groups = list(dict.fromkeys(line.group for report in reports for line in report.lines))
    names = [report.plugin for report in reports]
    rows = [f"| group | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    rows += [
        f"| {group} | {' | '.join(_cell(report, group) for report in reports)} |"
        for group in groups
    ]
    totals = [Counter(line.verdict for line in report.lines) for report in reports]
    rows += [f"| *{word}* | {' | '.join(str(total[word]) for total in totals)} |" for word in WORDS]
    return "\n".join(rows) + "\n"


def _cell(report: Report, group: str) -> str:
    lines = [line for line in report.lines if line.group == group]
    verdicts = Counter(line.verdict for line in lines)
    applying = [line for line in lines if line.verdict != "not declared"]
    failed = f", **{verdicts['failed']} failed**" if verdicts["failed"] else ""
    if all(line.is_refusal for line in applying):
        return f"refused{failed}" if applying else "—"
    unknown = f", {verdicts['environment']} unknown" if verdicts["environment"] else ""
    return f"{verdicts['passed']} of {len(applying)}{failed}{unknown}"
