"""The driver and a service of a user's who is not root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.engines import images
from tests.engines.podman import Podman
from tests.engines.rootless import PROGRAMS, RootlessPodman, open_rootless

ALL = bool(os.environ.get("LONGSHORE_ALL_LAWS"))
SOME = ("I4", "F1", "IM1", "L1", "L5", "L7", "R1", "E1", "E10", "LG1", "S0", "S1", "S7", "T1", "N0")
"""Of the laws, one or two of each group. All of them take minutes."""


@pytest.fixture(scope="module")
def rootless(
    podman_engine: Podman, require: Callable[[object, str], None]
) -> Iterator[RootlessPodman]:
    """Asks for the other engine only to take turns with its tests."""
    require(os.geteuid() == 0, "root, who can make users")
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    require(not missing, f"{', '.join(missing)}: sudo tests/engines/install.sh")
    require(_is_for_all("/dev/net/tun"), "/dev/net/tun for all: sudo tests/engines/install.sh")
    require(int(Path("/proc/sys/user/max_user_namespaces").read_text()), "user namespaces")
    with open_rootless() as service:
        yield service


def _is_for_all(device: str) -> bool:
    return os.path.exists(device) and os.stat(device).st_mode & 0o006 == 0o006


def test_a_container_lives_and_goes_without_root(rootless: RootlessPodman) -> None:
    image = rootless.podman.load(images.NON_ROOT)
    state = rootless.directory / "state"
    state.mkdir()
    os.chown(state, rootless.uid, rootless.gid)
    argv = [sys.executable, str(Path(__file__).with_name("a_life.py"))]
    command = rootless.as_user(*argv, rootless.podman.address, str(state), image)
    done = subprocess.run(
        command,
        env=rootless.environment(),
        cwd=rootless.directory,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    declared = told.pop("limits")
    asked = rootless.podman.run("info", "--format", "{{json .Host.CgroupControllers}}")
    assert set(declared) == {"cpu", "memory", "pids"} & set(json.loads(asked) or ())
    assert told == {
        "code": 7,
        "left running": "0\n",
        "inside": "1000\n",
        "outside": rootless.uid,
        "log": "hello\n",
        "end": [None, SIGKILL, False],
        "refused": "memory" not in declared,
        "left": 0,
    }
    assert rootless.podman.run("ps", "--all", "--quiet") == ""
    assert list(state.iterdir()) == []


@pytest.mark.timeout(1800)
def test_the_driver_conforms_without_root(rootless: RootlessPodman) -> None:
    """But for a capability to read what root keeps an interpreter in: what the driver must be able
    to read is not examined by this."""
    place, kit = rootless.directory / "kit", "longshore_core.conformance"
    place.mkdir()
    config = place / "driver.yaml"
    config.write_text(json.dumps({"address": rootless.podman.address}))
    for path in (place, config):
        os.chown(path, rootless.uid, rootless.gid)
    image = rootless.podman.load(images.BASE)
    argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", kit, "--driver=podman"]
    laws = [] if ALL else [f"--laws={','.join(SOME)}"]
    command = rootless.as_user(
        sys.executable, *argv, f"--driver-config={config}", f"--image={image}", *laws
    )
    done = subprocess.run(
        command,
        env={**rootless.environment(), "TMPDIR": str(place)},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
