"""The driver keeps the laws of the conformance kit, with an engine that may be taken away."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from longshore_core.testing import DRIVER_LAWS, Profile, in_profile

from tests.engines import images
from tests.engines.dockerd import open_docker

ROOT = Path(__file__).parents[3]
CORE = [law.id for law in in_profile(DRIVER_LAWS, Profile.CORE)]
SHARE = 1 if os.environ.get("LONGSHORE_ALL_LAWS") else 6
"""All of them take minutes, which `make laws` gives them; here it is one law in six."""


@pytest.mark.xdist_group("docker")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("ready", "first"), [(0, 0), (2, 3)], ids=["without-pool", "with-pool"])
def test_the_laws_of_the_core_are_kept(
    require: Callable[..., None], tmp_path: Path, ready: int, first: int
) -> None:
    require(os.geteuid() == 0 and shutil.which("dockerd"), "root, and dockerd")
    with open_docker(private=True) as docker:
        config = tmp_path / "driver.yaml"
        config.write_text(json.dumps({"address": docker.address, "ready_networks": ready}))
        engine = shlex.join([sys.executable, "-m", "tests.engines.dockerd"])
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("--pyargs", "longshore_core.conformance", "--driver=docker"),
                f"--laws={','.join(CORE[first % SHARE :: SHARE])}",
                *(f"--driver-config={config}", f"--image={docker.load(images.BASE)}"),
                f"--engine-stop={engine} stop {docker.directory}",
                f"--engine-start={engine} start {docker.directory}",
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:]
