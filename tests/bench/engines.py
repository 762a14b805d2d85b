"""Sandboxes on container engines, each beside what the engine itself takes for a container.

The floor asks the engine over its own API for a container on a bridge, and for its start. Measured
in the same run, one after the other, in turns: whatever else the machine does falls on both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.bench.figures import Figure, first_output
from tests.engines.dockerd import open_docker
from tests.engines.images import BASE
from tests.engines.podman import open_podman
from tests.system.harness import System, system, until

POOL = 10
TURNS = 4
"""Of as many creates as there are namespaces ready, with a floor before each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An engine, how its own API makes a container, and what was promised beside that."""

    name: str
    open: Callable[[], AbstractContextManager[Any]]
    prefix: str
    body: Callable[[str, str], dict[str, Any]]
    """Of an image and a network."""
    bridge: str
    """Its own."""
    ours: str
    """How to ask for the name of the driver's, which is another kind of bridge; empty: it cannot
    be used without the driver."""
    holders: str
    """Lists the namespaces that are ready."""
    with_pool: float
    without_pool: float


DOCKER = Bench(
    name="docker",
    open=open_docker,
    prefix="http://docker/v1.41",
    body=lambda image, network: {
        "Image": image,
        "Cmd": ["sleep", "1000"],
        "HostConfig": {"NetworkMode": network},
    },
    bridge="bridge",
    ours="network ls --quiet --no-trunc --filter name=^longshore-",
    holders="label=longshore.role=network",
    with_pool=0.9,
    without_pool=1.45,
)
PODMAN = Bench(
    name="podman",
    open=open_podman,
    prefix="http://podman/v4.0.0/libpod",
    body=lambda image, network: {
        "image": image,
        "command": ["sleep", "1000"],
        "netns": {"nsmode": network},
    },
    bridge="bridge",
    ours="",
    holders="",
    with_pool=1.2,
    without_pool=1.7,
)


def docker() -> Iterator[Figure]:
    yield from _figures(DOCKER)


def podman() -> Iterator[Figure]:
    yield from _figures(PODMAN)


def _figures(bench: Bench) -> Iterator[Figure]:
    with bench.open() as engine:
        image = engine.load(BASE)
        for pool, target in ((POOL, bench.with_pool), (0, bench.without_pool)):
            kind = f"a pool of {pool}" if pool else "no pool"
            floors, samples = _measure(bench, engine, image, pool)
            ours = Figure(
                name=f"create until first output, {bench.name}, {kind}", unit="ms", samples=samples
            )
            yield ours
            for network, floor in floors.items():
                name = f"floor: {bench.name}'s API, create and start, {network}"
                base = Figure(name=name, unit="ms", samples=floor)
                spread = (ours.worst / ours.median) / (base.worst / base.median)
                times = [ours.median / base.median]
                # Like is compared with like: its last floor is of the network that ours is in.
                aims = (target, 1.5) if floor is [*floors.values()][-1] else (None, None)
                yield base
                yield Figure(name="    times it", unit="x", samples=times, target=aims[0])
                yield Figure(
                    name="    p99/p50, times its", unit="x", samples=[spread], target=aims[1]
                )


def _measure(
    bench: Bench, engine: Any, image: str, pool: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Samples of each floor, and of ours."""
    samples: list[float] = []
    driver = {"type": bench.name, "address": engine.address, "ready_networks": pool}
    transport = httpx.HTTPTransport(uds=engine.address.removeprefix("unix://"))
    with (
        tempfile.TemporaryDirectory() as directory,
        system(Path(directory), driver=driver, on_exit="remove") as whole,
        httpx.Client(transport=transport, base_url=bench.prefix, timeout=60) as api,
    ):
        whole.start_all()
        _create(bench, whole, api, image)
        networks = {"its own bridge": bench.bridge}
        if bench.ours:
            networks["our bridge"] = engine.run(*bench.ours.split()).strip()
        floors: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(TURNS):
            for name, network in networks.items():
                floors[name] += [_container(bench, api, image, network) for _ in range(POOL)]
            _settle(bench, engine, pool)
            samples += [_create(bench, whole, api, image) for _ in range(POOL)]
        whole.stop("worker")
    return floors, samples


def _create(bench: Bench, whole: System, api: httpx.Client, image: str) -> float:
    took = first_output(whole, image)
    command = {"all": "true", "filters": '{"label": ["indexify.managed=true"]}'}
    until(lambda: not api.get("/containers/json", params=command).json(), "it is removed", 60)
    return took


def _container(bench: Bench, api: httpx.Client, image: str, network: str) -> float:
    body = bench.body(image, network)
    began = time.perf_counter()
    made = api.post("/containers/create", json=body).raise_for_status().json()["Id"]
    api.post(f"/containers/{made}/start").raise_for_status()
    took = (time.perf_counter() - began) * 1000
    # Podman would ask `sleep` to end first, and wait ten seconds for it.
    removal = {"force": "true", "timeout": "0"}
    api.delete(f"/containers/{made}", params=removal).raise_for_status()
    return took


def _settle(bench: Bench, engine: Any, pool: int) -> None:
    """Wait until as many namespaces are ready as there should be."""
    if bench.holders:
        command = ("ps", "--quiet", "--filter", bench.holders)
        until(lambda: len(engine.run(*command).split()) == pool, "the pool is full", 60)
