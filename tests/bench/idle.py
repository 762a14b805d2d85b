"""What a worker keeps for each of many sandboxes that do nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.daemon import resident
from tests.bench.figures import Figure
from tests.engines.dockerd import open_docker
from tests.engines.images import BASE
from tests.engines.podman import open_podman
from tests.system.harness import System, system, until

MANY = 200
_AT_ONCE = 8
_SETTLE_SECONDS = 600.0


def idle() -> Iterator[Figure]:
    for name, opened in (("docker", open_docker), ("podman", open_podman)):
        with opened() as engine, tempfile.TemporaryDirectory() as directory:
            image = engine.load(BASE)
            driver = {"type": name, "address": engine.address}
            with system(Path(directory), driver=driver, on_exit="remove") as whole:
                yield from _figures(whole, name, image)
                whole.stop("worker")


def _figures(whole: System, name: str, image: str) -> Iterator[Figure]:
    whole.start_all()
    # What the first one costs, such as modules that are loaded, is nobody's share.
    whole.delete(whole.create(image=image))
    before = _kept(whole)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ids = list(pool.map(lambda _: whole.create(image=image), range(MANY)))
    after = _kept(whole)
    shares = [(now - then) / MANY for now, then in zip(after, before, strict=True)]
    for what, share, unit, target in zip(
        ("memory", "descriptors"), shares, ("KiB", ""), (200.0, 6.0), strict=True
    ):
        title = f"{what} of the worker, {name}, for each of {MANY} idle sandboxes"
        yield Figure(name=title, unit=unit, samples=[share], target=target)
    for id_ in ids:
        whole.delete(id_)
    until(
        lambda: all(whole.sandbox(id_)["status"] == "terminated" for id_ in ids),
        "all have ended",
        _SETTLE_SECONDS,
    )


def _kept(whole: System) -> tuple[float, float]:
    """KiB, and descriptors."""
    pid = whole.running["worker"].pid
    return resident(pid) * 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))
