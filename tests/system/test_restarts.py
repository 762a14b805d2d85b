"""Each process may go, and come back, without the others' work being lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.system.harness import System, system, until


def healthy(whole: System, id_: str) -> bool:
    return whole.daemon(id_, "GET", "/api/v1/health").status_code == 200


@pytest.mark.timeout(180)
def test_a_server_that_was_killed_finds_its_sandboxes_running(tmp_path: Path) -> None:
    with system(tmp_path) as whole:
        whole.start_all()
        kept, deleted = whole.create(), whole.create()
        whole.stop("server", signal.SIGKILL)
        assert healthy(whole, kept)
        whole.start("server")
        whole.wait_ready()
        assert whole.sandbox(kept)["status"] == "running"
        whole.delete(deleted)
        until(lambda: whole.sandbox(deleted)["status"] == "terminated", "it can be deleted")
        assert healthy(whole, whole.create())
        assert healthy(whole, kept)


def test_a_proxy_that_was_killed_learns_the_routes_again(tmp_path: Path) -> None:
    with system(tmp_path) as whole:
        whole.start_all()
        id_ = whole.create()
        whole.stop("proxy", signal.SIGKILL)
        whole.start("proxy")
        until(lambda: whole.answers(whole.proxy, "/", 400), "the proxy answers")
        until(lambda: healthy(whole, id_), "the sandbox is reached")
        assert healthy(whole, whole.create())


@pytest.mark.timeout(180)
def test_an_orderly_stop_that_keeps_sandboxes_is_not_noticed_by_them(tmp_path: Path) -> None:
    with system(tmp_path, on_exit="keep") as whole:
        whole.start_all()
        id_ = whole.create()
        pid = whole.spawn(id_, "sleep", "1000")
        assert whole.stop("worker") == 0
        assert healthy(whole, id_)
        assert whole.sandbox(id_)["status"] == "running"
        whole.start("worker")
        until(whole.registered, "the next worker registers")
        answer = whole.daemon(id_, "GET", f"/api/v1/processes/{pid}").json()
        assert answer["status"] == "running"
        whole.delete(id_)
        until(lambda: whole.sandbox(id_)["status"] == "terminated", "it can be deleted")


@pytest.mark.timeout(180)
def test_what_is_asked_for_while_the_worker_is_away_is_done_when_it_is_back(tmp_path: Path) -> None:
    with system(tmp_path) as whole:
        whole.start_all()
        deleted = whole.create()
        whole.stop("worker", signal.SIGKILL)
        created = whole.create(wait=False)
        whole.delete(deleted)
        whole.start("worker")
        until(lambda: whole.sandbox(created)["status"] == "running", "it is created")
        until(lambda: whole.sandbox(deleted)["status"] == "terminated", "it is deleted")
        assert healthy(whole, created)
