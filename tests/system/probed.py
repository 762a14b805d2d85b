"""Run a sub-command of `longshore` with a probe in its event loop, and a guard at its side.

    probed.py TRACE COMMAND [ARGUMENT…]

On SIGUSR1, which a test sends once the process is up, the probe starts to count the CPU time of
each callback, and calls that block the loop begin to raise. At the end, the slowest go to TRACE.
For what a virtual machine's host takes away meanwhile, as much is allowed: caches are cold then.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from blockbuster import BlockBuster
from longshore._cli import main

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.machine import stolen_seconds

KEEP = 5
SAMPLE_SECONDS = 0.02
LOG_WRITES = ("io.TextIOWrapper.write", "io.BufferedWriter.write", "os.write")
"""Logs are written where they happen: to a file or a pipe that takes them at once."""

ALLOWED = (
    # A few hundred bytes from /proc, or of a record that was written moments ago.
    ("io.BufferedReader.read", "longshore_forkexec/processes.py", {"_look"}),
    ("io.BufferedReader.read", "longshore_forkexec/records.py", {"_read"}),
    # A new thread says that it runs.
    ("threading.Lock.acquire", "threading.py", {"start"}),
    # Once a route: where its function stands, for messages of errors.
    ("os.stat", "fastapi/routing.py", {"_extract_endpoint_context"}),
)


class Probe:
    def __init__(self) -> None:
        self.on = False
        self.count = 0
        self.slowest: list[tuple[float, int, str]] = []
        self.sampled_at = 0.0
        self.stolen = 0.0
        """How much had been stolen by then."""

    def sample(self) -> None:
        if time.monotonic() > self.sampled_at + SAMPLE_SECONDS:
            self.sampled_at, self.stolen = time.monotonic(), stolen_seconds()

    def install(self) -> None:
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> Any:
            if self.on:
                self.sample()
            began = time.thread_time()
            try:
                return run(handle)
            finally:
                took = time.thread_time() - began
                if self.on and took > SAMPLE_SECONDS:
                    took = max(0.0, took - (stolen_seconds() - self.stolen))
                if self.on:
                    self.note(took, handle)

        asyncio.Handle._run = timed  # type: ignore[method-assign]

    def note(self, seconds: float, handle: asyncio.Handle) -> None:
        self.count += 1
        if len(self.slowest) < KEEP:
            heapq.heappush(self.slowest, (seconds, self.count, repr(handle)))
        elif seconds > self.slowest[0][0]:
            heapq.heapreplace(self.slowest, (seconds, self.count, repr(handle)))

    def report(self) -> dict[str, Any]:
        worst = sorted(self.slowest, reverse=True)
        return {
            "callbacks": self.count,
            "slowest_ms": [[round(s * 1000, 2), what[:300]] for s, _, what in worst],
        }


def begin(probe: Probe) -> None:
    guard = BlockBuster()
    guard.activate()
    for name in LOG_WRITES:
        guard.functions[name].deactivate()
    for name, file, functions in ALLOWED:
        guard.functions[name].can_block_in(file, functions)
    probe.on = True


if __name__ == "__main__":
    trace = Path(sys.argv.pop(1))
    probe = Probe()
    probe.install()
    signal.signal(signal.SIGUSR1, lambda _number, _frame: begin(probe))
    try:
        main()
    finally:
        probe.on = False
        trace.write_text(json.dumps(probe.report()), encoding="utf-8")
