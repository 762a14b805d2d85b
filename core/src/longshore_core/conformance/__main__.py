"""`python -m longshore_core.conformance REPORT.json…`: a Markdown table of several reports."""

from __future__ import annotations

import sys
from pathlib import Path

from longshore_core.testing.report import from_json, matrix

if __name__ == "__main__":
    reports = [from_json(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    sys.stdout.write(matrix(reports))
