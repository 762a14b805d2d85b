"""A whole system on Docker: server, worker and proxy as processes, sandboxes as containers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import images
from tests.engines.dockerd import Docker
from tests.system.harness import System, system, until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def whole(docker_engine: Docker, tmp_path: Path) -> Iterator[System]:
    docker_engine.load(images.BASE)
    driver = {"type": "docker", "address": docker_engine.address, "ready_networks": 1}
    owner = ""
    try:
        with system(tmp_path, driver=driver) as started:
            owner = started.owner
            started.start_all()
            yield started
    finally:
        for kind in ("container", "network"):
            for id_ in _owned(docker_engine, kind, owner):
                # Its removal by the worker may still be in progress.
                force = ["--force"] * (kind == "container")
                docker_engine.run(kind, "rm", *force, id_, check=False)


def _owned(docker: Docker, kind: str, owner: str) -> list[str]:
    """Everything of a kind that a worker has made: its owner begins with the worker's id."""
    everything = ["--all"] * (kind == "container")
    form = '{{.ID}} {{.Label "longshore.owner"}}'
    lines = docker.run(kind, "ls", *everything, "--format", form).splitlines()
    pairs = (line.partition(" ") for line in lines)
    return [id_ for id_, _, whose in pairs if owner and whose.startswith(owner)]


def _output(whole: System, id_: str, *argv: str) -> str:
    body = {"command": argv[0], "args": list(argv[1:])}
    answer = whole.daemon(id_, "POST", "/api/v1/processes/run", json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_python_runs_in_a_container_of_the_image_that_was_asked_for(whole: System) -> None:
    id_ = whole.create(image=images.BASE.reference)
    shown = _output(whole, id_, "python3", "-c", "import os; print(os.listdir('/.longshore'))")
    assert "['runtime', 'sockets']" in shown or "['sockets', 'runtime']" in shown
    whole.delete(id_)
    until(lambda: whole.sandbox(id_)["status"] == "terminated", "it ends")


def test_a_worker_that_was_killed_finds_its_containers(
    whole: System, docker_engine: Docker
) -> None:
    id_ = whole.create(image=images.BASE.reference)
    whole.stop("worker", signal.SIGKILL)
    assert whole.daemon(id_, "GET", "/api/v1/health").status_code == 200
    before = docker_engine.run("ps", "--quiet", "--filter", "label=indexify.managed=true")
    whole.start("worker")
    whole.wait_ready()
    assert "hello" in _output(whole, id_, "sh", "-c", "echo hello")
    shown = docker_engine.run("ps", "--quiet", "--filter", "label=indexify.managed=true")
    assert shown == before
    whole.delete(id_)
    until(lambda: whole.sandbox(id_)["status"] == "terminated", "it ends")


def test_an_image_that_does_not_exist_is_the_reason_that_its_creator_hears(whole: System) -> None:
    answer = whole.api.post(
        "/v1/namespaces/default/sandboxes",
        params={"wait": "true"},
        json={"image": "localhost:9/none"},
    )
    assert answer.status_code >= 400
    assert "localhost:9/none" in answer.text
