"""Examine our drivers with the conformance kit, and write what came of it into the docs.

python docs/drivers.py           runs the kit over each, and writes reports and table
python docs/drivers.py --table   writes the table again from the reports that there are
python docs/drivers.py --check   says whether it is what the reports say
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from longshore_core.testing.report import from_json, matrix, to_json

DOCS = Path(__file__).parent
PAGE = DOCS / "conformance.md"
REPORTS = DOCS / "conformance"
DRIVERS = ("fork_exec", "null", "reference")
BEGIN, END = "<!-- drivers: begin -->\n", "<!-- drivers: end -->\n"


def examine(driver: str) -> int:
    """Run the kit over one driver; the answer is pytest's."""
    REPORTS.mkdir(exist_ok=True)
    file = REPORTS / f"{driver}.json"
    command = [sys.executable, "-m", "pytest", "-q", "--pyargs", "longshore_core.conformance"]
    done = subprocess.run([*command, f"--driver={driver}", f"--report={file}"], check=False)
    if file.exists():
        # How long it took is the machine's, and would change the file each time.
        report = from_json(file.read_text(encoding="utf-8"))
        lines = tuple(replace(line, seconds=0.0, measured={}) for line in report.lines)
        file.write_text(to_json(replace(report, lines=lines)), encoding="utf-8")
    return done.returncode


def table() -> str:
    """The table of all drivers of which there are reports."""
    files = [REPORTS / f"{driver}.json" for driver in DRIVERS]
    return matrix([from_json(file.read_text(encoding="utf-8")) for file in files])


def page(text: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def main() -> int:
    if "--check" in sys.argv:
        text = PAGE.read_text(encoding="utf-8")
        return 0 if page(text) == text else 1
    worst = 0 if "--table" in sys.argv else max([examine(driver) for driver in DRIVERS])
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return worst


if __name__ == "__main__":
    sys.exit(main())
