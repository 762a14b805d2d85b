"""A Longshore driver that runs containers on Podman, as root or without.

The hook offers a `Plug`, the plug opens a `Runtime`; `driver` is where to read on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from ipaddress import IPv4Network

import anyio
from anyio.abc import TaskGroup
from longshore_core import BackendError, Facts, Host, NetworkMode, Plug, hookimpl
from longshore_core.abc import Runtime
from longshore_core.address import UnixAddress

from longshore_podman.answers import Info
from longshore_podman.config import Config as Config
from longshore_podman.control import PodmanMeter, PodmanPauser
from longshore_podman.driver import Parts
from longshore_podman.driver import PodmanDriver as PodmanDriver
from longshore_podman.endings import Witness
from longshore_podman.engine import Engine, open_engine
from longshore_podman.events import Events
from longshore_podman.exec import PodmanExecutor
from longshore_podman.health import Health
from longshore_podman.images import Images
from longshore_podman.known import Known
from longshore_podman.logs import PodmanLogs
from longshore_podman.lookup import Lookup
from longshore_podman.namespaces import Plan
from longshore_podman.networks import Networks, open_networks
from longshore_podman.places import Places

__version__ = "0.1.0"


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    """Offer the driver `podman`."""
    return Plug(config=Config, open=open_podman)


@asynccontextmanager
async def open_podman(config: Config, host: Host) -> AsyncGenerator[Runtime]:
    """Open the driver on what earlier ones have left. Its containers outlive it."""
    # Both outlive the tasks that use them, of which some may never have run.
    with closing(Witness()) as witness:
        async with open_engine(config.engine) as engine, anyio.create_task_group() as tasks:
            known = Known(engine)
            await _ask(known, host)
            places = Places(host.state_dir.resolve(), host.owner)
            async with _open_own_network(config, host, engine, known.info, places) as networks:
                parts = Parts(
                    engine=engine,
                    lookup=Lookup(engine, host.owner),
                    events=Events(engine, host.logger),
                    images=Images(engine, config, known, tasks),
                    places=places,
                    witness=witness,
                    networks=networks,
                    known=known,
                    logger=host.logger,
                )
                try:
                    yield _start(config, host, parts, tasks)
                finally:
                    tasks.cancel_scope.cancel()


def _start(config: Config, host: Host, parts: Parts, tasks: TaskGroup) -> Runtime:
    driver = PodmanDriver(config, host.owner, parts)
    health = Health(parts.engine, parts.events, parts.known)
    runtime = _runtime(config, driver, parts, health)
    tasks.start_soon(parts.events.run)
    tasks.start_soon(driver.adopt)
    tasks.start_soon(parts.witness.run)
    tasks.start_soon(health.run)
    tasks.start_soon(_learn, config, parts, runtime)
    tasks.start_soon(parts.images.prepull, host.logger)
    return runtime


async def _ask(known: Known, host: Host) -> None:
    """A worker can begin while its engine is down, and then learns later what that is."""
    try:
        info = await known.ask()
    except BackendError as exc:
        host.logger.warning("podman_unavailable", extra={"why": str(exc)})
    else:
        host.logger.info("podman_opened", extra={"version": info.version})


def _runtime(config: Config, driver: PodmanDriver, parts: Parts, health: Health) -> Runtime:
    is_local = isinstance(parts.engine.address, UnixAddress)
    runtime = Runtime(
        driver=driver,
        facts=_facts(config, parts),
        images=parts.images,
        health=health,
        logs=PodmanLogs(parts.engine, parts.lookup),
        exec=PodmanExecutor(parts.engine, parts.lookup) if is_local else None,
    )
    _declare(config, parts, runtime)
    return runtime


def _declare(config: Config, parts: Parts, runtime: Runtime) -> None:
    """Say what depends on the engine, as far as that is known."""
    facts, engine, lookup = _facts(config, parts), parts.engine, parts.lookup
    runtime.facts = facts
    runtime.pause = PodmanPauser(engine, lookup) if facts.pause_with_memory else None
    runtime.usage = PodmanMeter(engine, lookup) if parts.known.info and facts.limits else None


async def _learn(config: Config, parts: Parts, runtime: Runtime) -> None:
    await parts.known.told.wait()
    _declare(config, parts, runtime)


def _facts(config: Config, parts: Parts) -> Facts:
    info = parts.known.info
    is_local = isinstance(parts.engine.address, UnixAddress)
    is_bridged = parts.networks is not None and not (info and info.rootless)
    return Facts(
        limits=parts.known.limits,
        recovers=True,
        # A directory of ours is nothing to an engine elsewhere.
        sockets=is_local,
        mounts=is_local,
        network=NetworkMode.BRIDGE if is_bridged else NetworkMode.NONE,
        pause_with_memory=info is not None and (not info.rootless or info.cgroup_version == "v2"),
        create_seconds=config.pull_timeout_seconds + config.startup_timeout_seconds,
        start_seconds=config.startup_timeout_seconds,
    )


def _open_own_network(
    config: Config, host: Host, engine: Engine, info: Info | None, places: Places
) -> AbstractAsyncContextManager[Networks | None]:
    """The worker's own network, where no other is named and where root can make it."""
    is_elsewhere = not isinstance(engine.address, UnixAddress) or bool(info and info.rootless)
    if config.network is not None or is_elsewhere or os.geteuid() != 0:
        return nullcontext()
    # Told apart by place as well: two workers may have been given one name.
    told_by = (host.owner, str(host.state_dir.resolve()))
    mark = "".join(hashlib.sha256(text.encode()).hexdigest()[:8] for text in told_by)
    plan = Plan(bridge=config.bridge, subnet=IPv4Network(config.subnet), mark=mark)
    return open_networks(
        plan,
        config.ready_networks,
        host.logger,
        host_access=config.host_access,
        claimed=places.networks(),
    )
