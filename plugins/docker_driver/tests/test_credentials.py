"""What this user's Docker configuration has for a registry, and the programs that it names."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from longshore_core import ImageError
from longshore_docker import credentials

REGISTRY = "registry.example.com:5000"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a program that is asked for credentials."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {REGISTRY: "vault"}}))

    def make(script: str) -> None:
        program = tmp_path / "docker-credential-vault"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return make


def test_a_helper_is_asked_for_the_registry(helper: Callable[[str], None], tmp_path: Path) -> None:
    said = json.dumps({"Username": "user", "Secret": "word"})
    helper(f"cat > {tmp_path}/asked; echo '{said}'")
    found = credentials.find(REGISTRY)
    assert found == {"ServerAddress": REGISTRY, "Username": "user", "Password": "word"}
    assert (tmp_path / "asked").read_text() == REGISTRY


def test_a_helper_that_knows_nothing_is_no_error(helper: Callable[[str], None]) -> None:
    helper("echo 'credentials not found in native keychain'; exit 1")
    assert credentials.find(REGISTRY) is None


def test_a_helper_that_fails_is_named(helper: Callable[[str], None]) -> None:
    helper("echo locked; exit 1")
    with pytest.raises(ImageError, match="docker-credential-vault exited with") as caught:
        credentials.find(REGISTRY)
    assert not caught.value.retryable


def test_a_helper_that_hangs_is_ended_and_named(
    helper: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_HELPER_SECONDS", 0.3)
    helper(f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    began = time.monotonic()
    with pytest.raises(ImageError) as caught:
        credentials.find(REGISTRY)
    assert time.monotonic() - began < 10
    assert str(caught.value) == (
        f"no credentials for {REGISTRY}: docker-credential-vault does not answer"
    )
    assert caught.value.retryable
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
