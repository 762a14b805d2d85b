"""The system that `longshore up` makes of all distributions together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.xdist_group("system")
def test_the_demo_does_what_it_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    steps = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert steps.count("ok") == 8


@pytest.mark.xdist_group("system")
def test_a_configuration_that_cannot_be_used_ends_it_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text("network: {type: opne}\n")
    options = [f"--port-{name}={port}" for name, port in PORTS.items()]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "longshore", "up", *options),
            *("--config", tmp_path / "worker.yaml", "--data-dir", tmp_path / "data"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: worker: network.type: no plugin named 'opne'; did you mean 'open'?"
    )


PORTS = {"http": 28900, "grpc": 28901, "proxy": 28095, "monitoring": 28100}
"""Below those that the system hands out by itself."""
