"""What sandboxes that do nothing cost the worker, and that it takes no more than half a core."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.demo import Sandbox, Screen, play
from tests.engines import images
from tests.system.confined import can_confine, confined
from tests.system.harness import System, until
from tests.system.on_engines import KINDS, system_on

MANY = int(os.environ.get("LONGSHORE_IDLE_SANDBOXES", "20"))
"""A long run has 200."""
CONFINED = 20
"""So many of them are made by a worker that has half a core, and 256 MiB with its proxy."""
DESCRIPTORS = 6
"""Of the worker, for each idle sandbox."""
MEMORY = 200 << 10
"""In bytes; the same."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_idle_sandboxes_cost_little_and_half_a_core_carries_twenty_and_the_demo(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    require: Callable[[object, str], None],
) -> None:
    require(can_confine(), "cgroups for CPU time and memory")
    engine = request.getfixturevalue(f"{kind}_engine")
    with system_on(kind, engine, tmp_path) as whole:
        worker, proxy = whole.running["worker"], whole.running["proxy"]
        with confined(worker.pid, proxy.pid, cores=0.5, memory_bytes=256 << 20):
            whole.delete(whole.create(image=images.BASE.reference))
            ids = _made(whole, CONFINED)
            with Sandbox(_ports(whole), images.BASE.reference) as sandbox:
                play(Screen(), sandbox)
        if MANY > CONFINED:
            ids += _made(whole, MANY - CONFINED)
        assert all(whole.sandbox(id_)["status"] == "running" for id_ in ids)
        for id_ in ids:
            whole.delete(id_)
        until(
            lambda: all(whole.sandbox(id_)["status"] == "terminated" for id_ in ids),
            "all have ended",
            60 + MANY,
        )


def _made(whole: System, count: int) -> list[str]:
    """Sandboxes that cost the worker no more than they may."""
    worker = whole.running["worker"].pid
    descriptors, memory = _descriptors(worker), _resident(worker)
    ids = [whole.create(image=images.BASE.reference) for _ in range(count)]
    assert _descriptors(worker) - descriptors <= DESCRIPTORS * count
    assert _resident(worker) - memory <= MEMORY * count
    return ids


def _ports(whole: System) -> dict[str, int]:
    return {"http": whole.http_port, "proxy": whole.proxy_port}


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _resident(pid: int) -> int:
    """In bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))
