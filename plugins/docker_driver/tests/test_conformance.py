"""The driver keeps the laws of the conformance kit, with an engine that may be taken away."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from longshore_core.testing import DRIVER_LAWS, Profile, in_profile

from tests.engines import images
from tests.engines.dockerd import Docker

ROOT = Path(__file__).parents[3]
CORE = [law.id for law in in_profile(DRIVER_LAWS, Profile.CORE)]
SHARE = 1 if os.environ.get("LONGSHORE_ALL_LAWS") else 12
"""All of them take minutes, which `make laws` gives them; here it is one law in twelve."""


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("ready", "first"), [(0, 0), (2, 6)], ids=["without-pool", "with-pool"])
def test_the_laws_of_the_core_are_kept(
    docker_engine: Docker, tmp_path: Path, ready: int, first: int
) -> None:
    config = tmp_path / "driver.yaml"
    config.write_text(json.dumps({"address": docker_engine.address, "ready_networks": ready}))
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("--pyargs", "longshore_core.conformance", "--driver=docker"),
        f"--laws={','.join(CORE[first % SHARE :: SHARE])}",
        *(f"--driver-config={config}", f"--image={docker_engine.load(images.BASE)}"),
    ]
    if docker_engine.directory is not None:
        # Two engines of one host take each other's rules away, so it is the one that there is.
        engine = shlex.join([sys.executable, "-m", "tests.engines.dockerd"])
        command += [
            f"--engine-stop={engine} stop {docker_engine.directory}",
            f"--engine-start={engine} start {docker_engine.directory}",
        ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
