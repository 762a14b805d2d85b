"""`longshore plugins new`: what it writes is built, installed, listed, and keeps the laws."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hatchling.build import build_wheel

from tests.system.environment import Environment

KINDS = ("driver", "network", "registry", "middleware", "guest", "secrets")
AT_LEAST = {
    "driver": 40,
    "network": 4,
    "registry": 5,
    "middleware": 6,
    "guest": 6,
    "secrets": 4,
}
"""How many must have been checked, and not skipped."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_scaffolded_is_installed_and_keeps_the_laws(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, project = Environment(tmp_path / "venv"), tmp_path / "project"
    written = environment.longshore("plugins", "new", kind, f"quay_{kind}", "--dir", str(project))
    assert written.returncode == 0, written.stderr
    monkeypatch.chdir(project)
    environment.pip(
        "install", "--no-index", "--no-deps", str(project / "dist" / build_wheel("dist"))
    )
    listed = environment.longshore("plugins", "--all").stdout
    row = next(line.split() for line in listed.splitlines() if f"longshore-quay-{kind}" in line)
    assert (row[1], row[5]) == (f"quay_{kind}", "ok")

    command = [str(environment.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs"]
    tested = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    summary = tested.stdout.splitlines()[-1]
    assert int(summary.split(" passed")[0].split()[-1]) >= AT_LEAST[kind], tested.stdout
