"""What is promised to be fast, measured beside a floor taken in the same run.

    make bench                        all of it
    make bench ARGS="--only create"   one of: version, up, worker, create, docker

Machines are shared and noisy: trust the ratios, and the medians more than the worst. Nothing here
is a test; a figure that misses its target is marked and the exit status is 0 all the same.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.engines import images
from tests.engines.dockerd import open_docker
from tests.system.harness import System, free_port, system, until

COUNT = 30
"""Of containers on a real engine, for each figure."""
LONGSHORE = str(Path(sys.executable).with_name("longshore"))


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
        return sorted(self.samples)[max(0, int(len(self.samples) * 0.99) - 1)]

    def row(self) -> str:
        verdict = ""
        if self.target is not None:
            verdict = f"under {self.target:g}: {'yes' if self.median < self.target else 'NO'}"
        shown = f"{self.median:9.1f} {self.worst:9.1f} {self.unit:<4}"
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
        )


def docker() -> Iterator[Figure]:
    """Beside the engine's own floor: a container made and started over its API, on a bridge."""
    with open_docker() as engine:
        image = engine.load(images.BASE)
        floor = [raw_start(engine.address, image) for _ in range(COUNT)]
        yield Figure(name="floor: Docker's API, create and start", unit="ms", samples=floor)
        for ready, share in ((4, 0.9), (0, 1.45)):
            driver = {"type": "docker", "address": engine.address, "ready_networks": ready}
            with (
                tempfile.TemporaryDirectory() as directory,
                system(Path(directory), driver=driver, on_exit="remove") as whole,
            ):
                whole.start_all()
                first_output(whole, image)
                samples = [first_output(whole, image) for _ in range(COUNT)]
                yield Figure(
                    name=f"create until the first exec's output, docker, {ready} ready",
                    unit="ms",
                    samples=samples,
                    target=share * statistics.median(floor),
                )
                whole.stop("worker")


def raw_start(address: str, image: str) -> float:
    host = {"NetworkMode": "bridge"}
    body = {"Image": image, "Entrypoint": ["sleep", "1000"], "HostConfig": host}
    transport = httpx.HTTPTransport(uds=address.removeprefix("unix://"))
    with httpx.Client(transport=transport, base_url="http://docker", timeout=60) as client:
        began = time.perf_counter()
        id_ = client.post("/containers/create", json=body).json()["Id"]
        client.post(f"/containers/{id_}/start").raise_for_status()
        took = (time.perf_counter() - began) * 1000
        client.delete(f"/containers/{id_}", params={"force": True})
    return took


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


def resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


GROUPS: dict[str, Callable[[], Iterator[Figure]]] = {
    "version": version,
    "up": up,
    "worker": worker,
    "create": create,
    "docker": docker,
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
