"""Tensorlake's own clients, as they come from the package index, against the whole system.

`make clients` installs them. Both generations expect a proxy on localhost at a port of their own.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.system.harness import system

ROOT = Path(__file__).resolve().parents[2]
THEIR_PORT = 9443


@pytest.mark.parametrize(
    ("version", "program"),
    [("0.4.0", "tensorlake_0_4.py"), ("0.5.162", "tensorlake_0_5.py")],
)
@pytest.mark.xdist_group("tensorlake")
def test_the_unmodified_client_finds_all_that_it_expects_of_a_sandbox(
    tmp_path: Path, require, version: str, program: str
) -> None:
    python = ROOT / f".venv-tensorlake-{version}" / "bin" / "python"
    require(python.exists(), f"Tensorlake's client {version}; `make clients` installs it")
    with system(tmp_path, http_proxy={"extra_ports": [THEIR_PORT]}) as whole:
        whole.start_all()
        result = subprocess.run(
            [python, ROOT / "tests" / "system" / "clients" / program],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "TENSORLAKE_API_URL": f"http://localhost:{whole.http_port}",
            },
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
