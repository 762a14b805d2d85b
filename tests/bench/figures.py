"""One line of the table, and how its samples are taken."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.system.harness import System, until


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `samples` in the unit; `target` is for their median."""

    name: str
    unit: str
    samples: list[float]
    target: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def worst(self) -> float:
        """The 99th percentile, or the slowest of fewer than a hundred."""
        return sorted(self.samples)[math.ceil(len(self.samples) * 0.99) - 1]

    def row(self) -> str:
        verdict = ""
        if self.target is not None:
            verdict = f"under {self.target:g}: {'yes' if self.median < self.target else 'NO'}"
        places = 2 if self.unit == "x" else 1
        shown = f"{self.median:9.{places}f} {self.worst:9.{places}f} {self.unit:<4}"
        return f"{self.name:<58}{shown} {len(self.samples):4}  {verdict}"


def timed(work: Callable[[], object], count: int) -> list[float]:
    samples = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        samples.append((time.perf_counter() - began) * 1000)
    return samples


def run(*argv: str) -> bytes:
    return subprocess.run(argv, check=True, capture_output=True).stdout


def first_output(whole: System, image: str = "python:3.14-slim") -> float:
    began = time.perf_counter()
    id_ = whole.create(image=image)
    execute(whole, id_)
    took = (time.perf_counter() - began) * 1000
    whole.delete(id_)
    until(lambda: whole.sandbox(id_)["status"] == "terminated", "it ends")
    return took


def execute(whole: System, id_: str) -> None:
    body = {"command": "sh", "args": ["-c", "echo hello"]}
    headers = {"Tensorlake-Sandbox-Id": id_}
    with whole.proxy.stream(
        "POST", "/api/v1/processes/run", json=body, headers=headers
    ) as response:
        assert any('"hello"' in line for line in list(response.iter_lines()))
