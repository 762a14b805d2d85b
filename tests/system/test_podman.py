"""A whole system on Podman: a sandbox with an image, a worker that is killed, and nothing left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import images
from tests.engines.podman import Podman, remove_network
from tests.system.harness import System, system, until

BRIDGE = "lsp-system"


@pytest.fixture
def whole(podman_engine: Podman, tmp_path: Path) -> Iterator[System]:
    podman_engine.load(images.BASE)
    driver = {
        "type": "podman",
        "address": podman_engine.address,
        "bridge": BRIDGE,
        "subnet": "10.248.0.0/24",
        "ready_networks": 2,
    }
    try:
        with system(tmp_path, driver=driver) as started:
            try:
                yield started
            finally:
                label = f"label=longshore.owner={started.owner}/driver"
                listed = podman_engine.run("ps", "-aq", "--filter", label)
                for container in listed.split():
                    podman_engine.run("rm", "--force", "--time", "0", container)
    finally:
        # After the worker, which would lay its rules again.
        remove_network(BRIDGE)


def run(whole: System, id_: str, script: str) -> str:
    body = {"command": "/bin/sh", "args": ["-c", script]}
    answer = whole.daemon(id_, "POST", "/api/v1/processes/run", json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.timeout(180)
def test_a_sandbox_runs_outlives_its_worker_and_leaves_nothing(
    whole: System, podman_engine: Podman
) -> None:
    whole.start_all()
    id_ = whole.create(image=images.BASE.reference)
    assert "hello 2" in run(whole, id_, "echo hello $((1 + 1)); id -u")
    before = podman_engine.run("ps", "-q", "--filter", "label=indexify.managed=true")
    whole.stop("worker", signal.SIGKILL)
    assert podman_engine.run("ps", "-q", "--filter", "label=indexify.managed=true") == before
    whole.start("worker")
    until(whole.registered, "the worker registers again")
    until(lambda: "still here" in run(whole, id_, "echo still here"), "it runs on")
    assert podman_engine.run("ps", "-q", "--filter", "label=indexify.managed=true") == before
    whole.delete(id_)
    label = f"label=longshore.owner={whole.owner}/driver"
    until(lambda: not podman_engine.run("ps", "-aq", "--filter", label), "it is removed")


@pytest.mark.timeout(120)
def test_a_sandbox_whose_image_does_not_exist_fails_by_name(whole: System) -> None:
    whole.start_all()
    answer = whole.api.post(
        "/v1/namespaces/default/sandboxes",
        params={"wait": "true"},
        json={"image": "127.0.0.1:9/there/is:none"},
    )
    assert "127.0.0.1:9/there/is:none" in answer.text, answer.text
