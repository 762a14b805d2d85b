"""The daemon that is PID 1 in a sandbox: how soon it answers, and what it takes."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import Patience, SandboxDaemon, assemble

from tests.bench.figures import Figure, run, timed


def daemon() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as directory:
        runtime = assemble(Path(directory) / "runtimes")
        guest = SandboxDaemon(runtime, Patience(start=10, call=5, grace=1))
        spec = guest.launch(ContainerSpec(id=ContainerId("c"), argv=()), Facts(mounts=False))
        interpreter = spec.argv[: spec.argv.index("-I")]
        yield Figure(
            name="floor: the portable interpreter, -I -S -c pass",
            unit="ms",
            samples=timed(lambda: run(*interpreter, "-I", "-S", "-c", "pass"), 30),
        )
        started = [_start(spec, Path(directory)) for _ in range(30)]
        yield Figure(
            name="daemon, from its exec until it answers health",
            unit="ms",
            samples=[ready for ready, _, _ in started],
            target=40,
        )
        yield Figure(
            name="    the same in CPU time, which others' load does not touch",
            unit="ms",
            samples=[busy for _, busy, _ in started],
            target=40,
        )
        yield Figure(
            name="daemon, resident once it answers",
            unit="MiB",
            samples=[memory for *_, memory in started],
            target=14,
        )


def _start(spec: ContainerSpec, directory: Path) -> tuple[float, float, float]:
    """How long it took, how much of a processor, and what it takes."""
    env = {**spec.env, "LONGSHORE_SOCKETS": str(directory)}
    control = directory / "control.sock"
    control.unlink(missing_ok=True)
    began = time.perf_counter()
    process = subprocess.Popen(spec.argv, env=env)
    try:
        while True:
            with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
                sock.connect(str(control))
                sock.sendall(b'{"v": 1, "op": "health"}\n')
                if sock.recv(4096):
                    break
            time.sleep(0.0002)
        took = (time.perf_counter() - began) * 1000
        # Nanoseconds on a processor come first.
        busy = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e6
        return took, busy, resident(process.pid)
    finally:
        process.terminate()
        process.wait()


def resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024
