"""`kill -9` of the worker at every boundary between two of its steps, with real sandboxes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.system.harness import System, marked_processes, start_time, system, until

CRASHING = Path(__file__).with_name("crashing_worker.py")
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
POINTS = 64 if os.environ.get("LONGSHORE_CI") else 16


class Follower(threading.Thread):
    """Follows a counter's output through the proxy, from before the first crash to the last."""

    def __init__(self, whole: System, sandbox: str, pid: int) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.cut: str | None = None
        self.leave = threading.Event()
        self._url = f"http://127.0.0.1:{whole.proxy_port}/api/v1/processes/{pid}/stdout/follow"
        self._headers = {"Tensorlake-Sandbox-Id": sandbox}

    def run(self) -> None:
        try:
            with httpx.stream("GET", self._url, headers=self._headers, timeout=60) as response:
                for line in response.iter_lines():
                    if line.startswith("data:") and "line" in line:
                        self.seen.append(int(json.loads(line[5:])["line"]))
                    if self.leave.is_set():
                        return
            self.cut = "the stream ended"
        except httpx.HTTPError as exc:
            self.cut = repr(exc)


def main_pid(whole: System, sandbox: str) -> int:
    """PID 1 of a sandbox: the process whose parent is the driver's launcher."""
    (file,) = whole.state_dir.glob(f"*/fork_exec/{sandbox}/life.json")
    return int(json.loads(file.read_text(encoding="utf-8"))["main"]["pid"])


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("crash")
def test_no_crash_of_the_worker_loses_restarts_or_orphans_a_sandbox(tmp_path: Path) -> None:
    # Workers that crash before they are up, one after the other, are silent for long: on a slow
    # machine for longer than a server waits for one.
    with system(tmp_path, server={"executor_timeout_secs": 900}) as whole:
        whole.start_all()
        kept = [whole.create(timeout_secs=0) for _ in range(3)]
        counters = {id_: whole.spawn(id_, "sh", "-c", COUNT) for id_ in kept}
        identity = {}
        for id_, pid in counters.items():
            first = main_pid(whole, id_)
            identity[id_] = (first, start_time(first), pid, start_time(pid))
        follower = Follower(whole, kept[0], counters[kept[0]])
        follower.start()
        whole.stop("worker")

        trace, crossed, made = tmp_path / "trace", set(), list[str]()
        for point in range(1, POINTS + 1):
            crossed.add(crash(whole, point, trace, made))
            for first, began, pid, pid_began in identity.values():
                assert (start_time(first), start_time(pid)) == (began, pid_began)
            assert follower.cut is None, follower.cut

        whole.start("worker")
        whole.wait_ready()
        assert follower.is_alive()
        for id_ in kept:
            assert whole.sandbox(id_)["status"] == "running"
            lines = whole.daemon(id_, "GET", f"/api/v1/processes/{counters[id_]}/stdout").json()
            numbers = [int(line) for line in lines["lines"]]
            assert numbers == list(range(1, len(numbers) + 1))
        assert follower.seen == list(range(1, len(follower.seen) + 1))
        for id_ in made:
            until(lambda id_=id_: whole.sandbox(id_)["status"] in ("running", "terminated"), id_)
            assert whole.sandbox(id_).get("outcome") in (None, "Success(UserTerminated)")
        follower.leave.set()
        assert len(crossed) >= (8 if POINTS > 50 else 3), sorted(crossed)

        for id_ in [*kept, *made]:
            whole.delete(id_)
        until(lambda: not marked_processes(whole.owner), "no process is left")
        until(
            lambda: not [p for p in (whole.state_dir / "driver/fork_exec").iterdir() if p.is_dir()],
            "no directory is left",
        )


def crash(whole: System, point: int, trace: Path, made: list[str]) -> str:
    """Run a worker into its `point`-th boundary while sandboxes come and go; say which it was."""
    trace.unlink(missing_ok=True)
    argv = [sys.executable, str(CRASHING), str(whole.worker_config), str(point), str(trace)]
    worker = whole.start("worker", argv)
    # What is asked for now is served by whichever worker lives to do it.
    made.append(whole.create(wait=False))
    if len(made) >= 2:
        whole.delete(made[-2])
    while worker.poll() is None:
        if whole.registered() and whole.sandbox(made[-1])["status"] == "running":
            made.append(whole.create(wait=False))
            whole.delete(made[-2])
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(0.05)
    return trace.read_text(encoding="utf-8")
