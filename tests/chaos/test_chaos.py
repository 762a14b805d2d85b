"""A worker's kernel over drivers that fail: 300 seeds in CI, as many as one likes by hand.

    LONGSHORE_CHAOS_RUNS=10000 make test ARGS=tests/chaos

The whole share of `fork_exec` runs real processes. A run that fails says how to repeat it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest
from longshore_core.testing.chaos import ChaosResult, chaos_runs
from longshore_core.testing.chaos_plan import plan

RUNS = int(
    os.environ.get("LONGSHORE_CHAOS_RUNS") or (300 if os.environ.get("LONGSHORE_CI") else 60)
)
BATCHES = 10
SCRIPT = {
    "script": [
        {"match": "*exit 3*", "run_for": 0.002, "exit_code": 3},
        {"match": "*kill -USR1*", "run_for": 0.004, "exit_signal": 10},
        {"match": "*no-such-program", "start_error": "backend"},
        {"match": "*trap*", "deaf": True},
        {},
    ]
}
"""Stands in for what the containers of a run would do."""


def chaos(
    driver: str, seeds: Iterable[int], backend: str = "asyncio", **options: Any
) -> list[ChaosResult]:
    async def run() -> list[ChaosResult]:
        return await chaos_runs(driver, seeds, options=options)

    return anyio.run(run, backend=backend)


def assert_well(results: list[ChaosResult]) -> None:
    failed = [str(result) for result in results if result.problems]
    assert not failed, "\n" + "\n".join(failed)
    assert sum(result.struck for result in results) > 0, "no fault has struck"
    assert sum(result.workers for result in results) > len(results), "no worker was restarted"


@pytest.mark.timeout(120 + RUNS)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_real_processes_survive_chaos(batch: int) -> None:
    seeds = range(batch + 1, RUNS + 1, BATCHES)
    backend = ("asyncio", "trio")[batch % 2]
    # With cgroups for some: to find out what a host allows takes longer than a run.
    cgroup = "auto" if batch == 0 else "off"
    assert_well(chaos("fork_exec", seeds, backend, cgroup=cgroup))


@pytest.mark.timeout(120 + RUNS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_scripted_containers_survive_chaos(backend: str) -> None:
    first = 100_000 if backend == "trio" else 200_000
    assert_well(chaos("faulty", range(first, first + RUNS // 5), backend, **SCRIPT))


def test_containers_in_memory_survive_chaos() -> None:
    assert_well(chaos("null", range(300_000, 300_000 + RUNS // 10)))


def test_a_seed_decides_all_of_a_run() -> None:
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_the_reproducer_is_a_command_that_repeats_one_run() -> None:
    words = ["-m", "longshore_core.testing.chaos", "--driver", "null", "--seed", "3"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("seed 3: well\n1 runs in ")


@pytest.mark.parametrize(("backend", "more"), [("asyncio", ""), ("trio", " --backend trio")])
def test_the_reproducer_runs_on_the_same_backend(backend: str, more: str) -> None:
    [result] = chaos("null", [3], backend)
    again = "python -m longshore_core.testing.chaos --driver null"
    assert result.reproducer == f"{again}{more} --seed 3"


@pytest.mark.parametrize(
    ("driver", "complaint"),
    [
        ("reference", "it needs containers that live by the host's clock"),
        ("no_such_driver", "no_such_driver"),
    ],
)
def test_a_driver_that_chaos_cannot_watch_is_refused(driver: str, complaint: str) -> None:
    words = ["-m", "longshore_core.testing.chaos", "--driver", driver]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert complaint in done.stderr


@pytest.mark.parametrize("config", ["{bad", "[]"])
def test_a_configuration_that_is_none_is_refused(config: str) -> None:
    words = ["-m", "longshore_core.testing.chaos", "--config", config]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Invalid value for --config: {config!r} is no JSON" in done.stderr


MUTANT = """
from contextlib import asynccontextmanager

from longshore_core import Exit, Facts, Plug
from longshore_core._builtin.null_driver import Config, NullDriver
from longshore_core.abc import Runtime


class Mutant(NullDriver):
    {method}


@asynccontextmanager
async def open_mutant(config, host):
    yield Runtime(driver=Mutant(), facts=Facts(programs=False))


def driver():
    return Plug(config=Config, open=open_mutant)
"""


@pytest.mark.parametrize(
    ("name", "method", "complaint"),
    [
        ("leaking", "async def remove(self, handle): ...", "is an orphan"),
        ("blind", "async def survey(self): return []", "nobody saw how"),
        (
            "lying",
            "async def wait(self, handle):\n        return Exit(code=9)",
            "ended otherwise than it does",
        ),
    ],
)
def test_a_driver_that_breaks_a_promise_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str, complaint: str
) -> None:
    (tmp_path / f"{name}_mutant.py").write_text(MUTANT.format(method=method))
    monkeypatch.syspath_prepend(str(tmp_path))
    results = chaos(f"{name}_mutant:driver", range(1, 13))
    failed = [result for result in results if result.problems]
    assert complaint in "\n".join(map(str, failed))
    again = f"python -m longshore_core.testing.chaos --driver {name}_mutant:driver"
    assert failed[0].reproducer == f"{again} --seed {failed[0].seed}"
    assert failed[0].reproducer in str(failed[0])
