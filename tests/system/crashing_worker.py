"""A worker that kills itself, as `kill -9` would, at the N-th boundary between two durable steps.

    crashing_worker.py CONFIG N TRACE

Each boundary's name goes to TRACE first, so that a test knows where it was.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

from longshore_core._app import WorkerRun, run_worker
from longshore_core._settings import WorkerSettings
from longshore_core.process import config, logs
from longshore_core.process.entry import run_application
from longshore_core.process.stop import wait_stop


class Fuse:
    def __init__(self, length: int, trace: Path) -> None:
        self.left = length
        self.trace = trace

    def __call__(self, boundary: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.trace.write_text(boundary, encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    file, length, trace = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    settings = config.load(WorkerSettings, file, os.environ)
    logs.configure(settings.env, os.environ)
    run = WorkerRun(
        settings=settings,
        stop=partial(wait_stop),
        with_proxy=False,
        boundary=Fuse(length, trace),
    )
    run_application(run_worker, run)


if __name__ == "__main__":
    main()
