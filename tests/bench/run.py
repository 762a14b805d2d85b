"""What is promised to be fast, measured beside a floor taken in the same run.

    make bench                        all of it
    make bench ARGS="--only create"   one of: version, up, worker, create, daemon, docker, podman,
                                      idle

Machines are shared and noisy: trust the ratios, and the medians more than the worst. Nothing here
is a test; a figure that misses its target is marked and the exit status is 0 all the same.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.bench import engines
from tests.bench.daemon import daemon, resident
from tests.bench.figures import Figure, execute, first_output, run, timed
from tests.bench.idle import idle
from tests.system.harness import free_port, system

LONGSHORE = str(Path(sys.executable).with_name("longshore"))


def version() -> Iterator[Figure]:
    yield Figure(
        name="floor: python -c pass",
        unit="ms",
        samples=timed(lambda: run(sys.executable, "-c", "pass"), 20),
    )
    yield Figure(
        name="longshore --version, whole process",
        unit="ms",
        samples=timed(lambda: run(LONGSHORE, "--version"), 20),
        target=150,
    )


def up() -> Iterator[Figure]:
    samples = []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(5):
            flags = [
                f"--port-{name}={free_port()}" for name in ("http", "grpc", "proxy", "monitoring")
            ]
            argv = [LONGSHORE, "up", "--data-dir", f"{directory}/data", *flags]
            began = time.perf_counter()
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if re.search(r"is up, after", line):
                        samples.append(time.perf_counter() - began)
                        process.send_signal(signal.SIGINT)
    yield Figure(
        name="longshore up, until it says that it is ready", unit="s", samples=samples, target=2
    )


def worker() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory, system(Path(directory)) as whole:
        whole.start_all()
        yield Figure(
            name="idle longshore worker, resident (registered, no sandbox)",
            unit="MiB",
            samples=[resident(whole.running["worker"].pid)],
            target=90,
        )
        whole.create()
        yield Figure(
            name="    the same with one sandbox",
            unit="MiB",
            samples=[resident(whole.running["worker"].pid)],
        )


def create() -> Iterator[Figure]:
    yield Figure(
        name="floor: spawn of sh -c 'echo', to its output",
        unit="ms",
        samples=timed(lambda: run("sh", "-c", "echo hello"), 50),
    )
    yield Figure(
        name="floor: spawn of python3 -I -S, to its output",
        unit="ms",
        samples=timed(lambda: run(sys.executable, "-I", "-S", "-c", "print('hello')"), 50),
    )
    with tempfile.TemporaryDirectory() as directory, system(Path(directory)) as whole:
        whole.start_all()
        first_output(whole)
        samples = [first_output(whole) for _ in range(60)]
        yield Figure(
            name="create (wait=true) until the first exec's output, fork_exec",
            unit="ms",
            samples=samples,
            target=80,
        )
        id_ = whole.create()
        yield Figure(
            name="exec of sh -c 'echo' in a running sandbox, through the proxy",
            unit="ms",
            samples=timed(lambda: execute(whole, id_), 200),
            target=4,
        )


GROUPS: dict[str, Callable[[], Iterator[Figure]]] = {
    "version": version,
    "up": up,
    "worker": worker,
    "create": create,
    "daemon": daemon,
    "docker": engines.docker,
    "podman": engines.podman,
    "idle": idle,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", choices=list(GROUPS), action="append")
    parser.add_argument("--json", type=Path, help="write every sample here")
    asked = parser.parse_args()
    print(f"{'':<58}{'median':>9} {'p99':>9} {'':<4} {'n':>4}")  # noqa: T201
    figures = []
    for name in asked.only or GROUPS:
        for figure in GROUPS[name]():
            figures.append(figure)
            print(figure.row(), flush=True)  # noqa: T201
    if asked.json:
        plain = [
            {"name": f.name, "unit": f.unit, "target": f.target, "samples": f.samples}
            for f in figures
        ]
        asked.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
