"""Each profile of the kit, by the command that its users give."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.test_command_line import pytest_run

CHAOS_RUNS = "5"
"""Many are a test of their own."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("profile", "driver"),
    [
        ("full", "reference"),
        ("security", "fork_exec"),
        ("perf", "fork_exec"),
        ("chaos", "fork_exec"),
    ],
)
def test_a_driver_of_ours_conforms_in_every_profile(
    profile: str, driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_CHAOS_RUNS", CHAOS_RUNS)
    image = ["--image=example/image:1"] * (driver == "reference")
    done = pytest_run(
        f"--driver={driver}", f"--profile={profile}", "--patience=4", "-q", *image, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout
    assert f"conforms: {driver} " in done.stdout
    assert f"kit 1.0, {profile}: " in done.stdout
