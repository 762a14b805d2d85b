"""Whose programs a host can run."""

from __future__ import annotations

from pathlib import Path

import pytest
from longshore_core.platforms import can_run


@pytest.mark.parametrize(
    ("platform", "native", "runs"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/386", "linux/amd64", True),
        ("linux/arm64", "linux/amd64", True),
        ("linux/s390x", "linux/amd64", False),
        ("linux/amd64", "linux/arm64", False),
    ],
)
def test_a_host_runs_its_own_and_what_it_has_an_emulator_for(
    platform: str, native: str, runs: bool, tmp_path: Path
) -> None:
    (tmp_path / "qemu-aarch64").touch()
    assert can_run(platform, native, tmp_path) is runs
