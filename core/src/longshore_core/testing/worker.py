"""A worker in a process of its own, to be killed: all that it does is to start one container.

The bench has the same driver, on the same state and under the same owner, before and after it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread
from anyio.abc import Process
from pydantic import TypeAdapter

from longshore_core._model import ContainerSpec
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.testing.bench import Bench, bare_host
from longshore_core.testing.expect import Broken
from longshore_core.testing.law import Missing
from longshore_core.testing.subject import find_subject

_SPEC: Final = TypeAdapter(ContainerSpec)
_START_SECONDS: Final = 30.0
_READY: Final = b"ready\n"
_STARTED: Final = b"started\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What it takes to open the driver of a bench again, elsewhere."""

    source: str
    options: Mapping[str, Any]
    owner: str
    state_dir: Path

    @classmethod
    def of(cls, bench: Bench) -> Worker:
        source = bench.subject.source
        if not isinstance(source, str):
            raise Missing("a driver that another process can import: a name, or pkg:Thing")
        host = bench.host()
        return cls(
            source=source,
            options=bench.subject.options,
            owner=host.owner,
            state_dir=host.state_dir,
        )

    async def start_and_be_killed(self, spec: ContainerSpec, *, after: float | None) -> None:
        """Kill it so long after it began to start the container; `None`: once that runs."""
        order = {
            "source": self.source,
            "options": dict(self.options),
            "owner": self.owner,
            "state_dir": str(self.state_dir),
            "spec": _SPEC.dump_python(spec, mode="json"),
        }
        path = os.pathsep.join(filter(None, sys.path))
        with tempfile.TemporaryFile() as errors:
            process = await anyio.open_process(
                [sys.executable, "-m", __name__],
                env={**os.environ, "PYTHONPATH": path},
                stderr=errors,
            )
            try:
                await _follow(process, order, after)
            except anyio.EndOfStream as exc:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().rpartition("\n")[-1]
                what = "a worker in another process cannot use the driver"
                raise Broken(f"{what}: {said}" if said else what) from exc
            finally:
                process.kill()
                await process.aclose()


async def _follow(process: Process, order: Mapping[str, object], after: float | None) -> None:
    """Give it the order; return when it is to be killed."""
    if process.stdin is None or process.stdout is None:
        raise Broken("the worker has no pipes")
    await process.stdin.send(json.dumps(order).encode() + b"\n")
    with anyio.fail_after(_START_SECONDS):
        # What it says may come in one piece, or in many.
        wanted, heard = (_STARTED if after is None else _READY), b""
        while wanted not in heard:
            heard += await process.stdout.receive()
        await anyio.sleep(after or 0.0)


async def main() -> None:
    """Read an order, say when all is ready, start the container, and wait to be killed."""
    order = json.loads(await to_thread.run_sync(sys.stdin.readline))
    subject = find_subject(order["source"], order["options"])
    host = bare_host(subject.origin.name, order["owner"], Path(order["state_dir"]))
    async with subject.open(host) as runtime:
        driver = AdaptedDriver(runtime, subject.origin)
        os.write(1, _READY)
        await driver.start(await driver.create(_SPEC.validate_python(order["spec"])))
        os.write(1, _STARTED)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main)
