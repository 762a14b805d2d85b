from __future__ import annotations

import io
import os
import platform
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
from longshore_core import ImageError, pause


def test_it_runs_until_it_is_killed_and_needs_nothing(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(pause.image(platform.machine()))) as tar:
        tar.extractall(tmp_path, filter="data")
    program = tmp_path / pause.PROGRAM.removeprefix("/")
    with subprocess.Popen([program], env={}) as running:
        # A signal that is ignored by nobody ends it: so it was there, waiting.
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(10) == -signal.SIGTERM


def test_its_image_is_the_same_each_time() -> None:
    assert pause.image("x86_64") == pause.image("x86_64")


def test_every_machine_has_its_own() -> None:
    assert pause.program("x86_64") != pause.program("aarch64")


def test_a_machine_that_it_does_not_know_is_named() -> None:
    with pytest.raises(ImageError, match="'riscv64', only for x86_64, aarch64"):
        pause.program("riscv64")
