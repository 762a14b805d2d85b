"""Workers and engines that are killed at any moment: no sandbox is lost, restarted or left over."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import images
from tests.engines.dockerd import PrivateDocker
from tests.engines.podman import PrivatePodman
from tests.system.harness import System, until
from tests.system.on_engines import KINDS, system_on

CI = bool(os.environ.get("LONGSHORE_CI"))
WORKER_KILLS = int(os.environ.get("LONGSHORE_WORKER_KILLS", "30" if CI else "4"))
ENGINE_KILLS = int(os.environ.get("LONGSHORE_ENGINE_KILLS", "10" if CI else "1"))
"""A long run takes 200 of the first."""
COUNT = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(kind: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{kind}_engine")


@pytest.fixture
def whole(kind: str, engine: Any, tmp_path: Path) -> Iterator[System]:
    with system_on(kind, engine, tmp_path, executor_timeout_secs=900) as started:
        yield started


def _identity(engine: Any, id_: str) -> tuple[int, str]:
    (shown,) = json.loads(engine.run("inspect", f"indexify-{id_}"))
    return shown["State"]["Pid"], shown["State"]["StartedAt"]


def _is_made(engine: Any, id_: str) -> bool:
    """Whether the engine has been asked for a sandbox's container, whatever has come of it."""
    names = engine.run("ps", "--all", "--format", "{{.Names}}").split()
    return f"indexify-{id_}" in names


def _kept(whole: System, engine: Any) -> dict[str, tuple[int, tuple[int, str]]]:
    """Two sandboxes that count, and who they are."""
    ids = [whole.create(image=images.BASE.reference, timeout_secs=0) for _ in range(2)]
    return {id_: (whole.spawn(id_, "sh", "-c", COUNT), _identity(engine, id_)) for id_ in ids}


def _are_the_same(whole: System, engine: Any, kept: dict[str, Any]) -> None:
    for id_, (pid, identity) in kept.items():
        assert whole.sandbox(id_)["status"] == "running"
        assert _identity(engine, id_) == identity
        answer = whole.daemon(id_, "GET", f"/api/v1/processes/{pid}/stdout")
        numbers = [int(line) for line in answer.json()["lines"]]
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers


@pytest.mark.timeout(600 + 20 * WORKER_KILLS)
def test_no_kill_of_the_worker_loses_restarts_or_leaves_a_sandbox(
    whole: System, engine: Any
) -> None:
    lots = random.Random(WORKER_KILLS)
    kept, made, met = _kept(whole, engine), list[str](), list[str]()
    for number in range(WORKER_KILLS):
        is_up = number % 2 == 0
        if is_up:
            # Else most kills come while it still begins, and nothing has been asked of it.
            until(whole.registered, "the worker registers", 60)
        made.append(whole.create(wait=False, image=images.BASE.reference))
        if len(made) > 1:
            whole.delete(made[-2])
        # Not a wait for anything: the moment of the kill, drawn by lot.
        time.sleep(lots.uniform(0, 3 if is_up else 1.5))
        whole.stop("worker", signal.SIGKILL)
        met += [made[-1]] * _is_made(engine, made[-1])
        whole.start("worker")
    assert met, "no kill has met a container that had been asked for"
    whole.wait_ready()
    for id_ in made[:-1]:
        until(lambda id_=id_: whole.sandbox(id_)["status"] == "terminated", id_, 60)
    until(lambda: whole.sandbox(made[-1])["status"] == "running", "the last one runs", 60)
    _are_the_same(whole, engine, kept)
    for id_ in (*kept, made[-1]):
        whole.delete(id_)
        until(lambda id_=id_: whole.sandbox(id_)["status"] == "terminated", id_, 60)


@pytest.mark.timeout(1200)
def test_no_kill_of_the_engine_loses_or_restarts_a_sandbox(
    whole: System, engine: Any, kind: str, require: Any
) -> None:
    require(engine.directory is not None, "an engine of the test's own, which it may kill")
    mine = (PrivateDocker if kind == "docker" else PrivatePodman)(engine.directory)
    lots = random.Random(ENGINE_KILLS)
    kept, made = _kept(whole, engine), list[str]()
    for _ in range(ENGINE_KILLS):
        made.append(whole.create(wait=False, image=images.BASE.reference))
        if len(made) > 1:
            whole.delete(made[-2])
        # Not a wait for anything: the moment of the kill, drawn by lot.
        time.sleep(lots.uniform(0, 1.5))
        mine.stop(signal.SIGKILL)
        for id_ in kept:
            # Who is inside needs no engine.
            assert whole.daemon(id_, "GET", "/api/v1/health").status_code == 200
        mine.start()
        _are_the_same(whole, engine, kept)
    id_ = until(lambda: _created(whole), "the worker has found the engine again", 60)
    for each in made[:-1]:
        until(lambda each=each: whole.sandbox(each)["status"] == "terminated", each, 60)
    # It runs, or it has ended with the engine's absence for a reason; it is not between the two.
    until(lambda: whole.sandbox(made[-1])["status"] in ("running", "terminated"), made[-1], 60)
    for each in (*kept, made[-1], id_):
        whole.delete(each)
        until(lambda each=each: whole.sandbox(each)["status"] == "terminated", each, 60)


def _created(whole: System) -> str | None:
    body = {"image": images.BASE.reference, "wait": True}
    answer = whole.api.post("/v1/namespaces/default/sandboxes", json=body)
    return str(answer.json()["sandbox_id"]) if answer.status_code == 200 else None
