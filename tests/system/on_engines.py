"""A whole system whose sandboxes are containers of an engine, and what it may leave there."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.engines import images
from tests.engines.fixtures import GROUP
from tests.engines.podman import remove_network
from tests.engines.processes import container_ids, mounts, traces
from tests.system.harness import System, system, until

BRIDGE: Final = "lsp-crashes"
READY: Final = 2
KINDS: Final = [
    pytest.param("docker", marks=GROUP),
    pytest.param("podman", marks=GROUP),
]


@contextmanager
def system_on(kind: str, engine: Any, directory: Path, **server: Any) -> Iterator[System]:
    """Started. When it is left without an error, it has left nothing."""
    engine.load(images.BASE)
    network = {"bridge": BRIDGE, "subnet": "10.250.0.0/24"} if kind == "podman" else {}
    driver = {"type": kind, "address": engine.address, "ready_networks": READY, **network}
    before, others = set(namespaces(kind, engine)), container_ids()
    try:
        with system(directory, server=server, driver=driver, on_exit="remove") as started:
            started.start_all()
            yield started
            # In order: what is left of the pool goes with the worker.
            assert started.stop("worker") == 0
            until(lambda: not containers(engine, started), "nothing is left on the engine")
            _wait_gone(others)
            assert networks(engine, started) == []
            # Podman's pool stays, for the next worker.
            left = set(namespaces(kind, engine)) - before
            assert len(left) <= (READY if kind == "podman" else 0), left
            assert sockets(kind, started) == []
    finally:
        if kind == "podman":
            remove_network(BRIDGE)


def _wait_gone(others: set[str]) -> None:
    """Engines are still about what they have removed."""
    with contextlib.suppress(AssertionError):
        until(lambda: container_ids() <= others, "nothing is left of containers")
    left = {id_: traces(id_) for id_ in container_ids() - others}
    assert not left, left


def containers(engine: Any, whole: System) -> list[str]:
    """All that the worker has made on the engine, what only holds networks included."""
    ids = engine.run("ps", "--all", "--quiet", "--no-trunc").split()
    shown = json.loads(engine.run("inspect", *ids, check=False) or "[]") if ids else []
    owned = {each["Id"]: _is_of(whole, each["Config"]["Labels"]) for each in shown}
    # What cannot be looked at has just gone, or is broken; and whose it is, nobody knows.
    return [id_ for id_ in ids if owned.get(id_, True)]


def networks(engine: Any, whole: System) -> list[str]:
    names = engine.run("network", "ls", "--format", "{{.Name}}").split()
    shown = json.loads(engine.run("network", "inspect", *names))
    # Docker writes its keys with capitals, Podman without.
    plain = [{key.lower(): value for key, value in each.items()} for each in shown]
    return [each["name"] for each in plain if _is_of(whole, each.get("labels"))]


def namespaces(kind: str, engine: Any) -> list[str]:
    """Of networks that are there, whoever is in them."""
    if kind == "docker":
        directory = engine.directory or Path("/run/docker")
        return [mount for mount in mounts(directory) if "/netns/" in mount]
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if BRIDGE in line]


def sockets(kind: str, whole: System) -> list[Path]:
    """The host's side of sandboxes' directories: together, or each in a place of its sandbox."""
    return list(whole.state_dir.glob("**/sockets/*" if kind == "docker" else "**/sockets"))


def _is_of(whole: System, labels: dict[str, str] | None) -> bool:
    return (labels or {}).get("longshore.owner", "").startswith(whole.owner)
