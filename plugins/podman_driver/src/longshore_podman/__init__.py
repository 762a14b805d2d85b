"""A Longshore driver that runs containers on Podman, as root or without.

The hook offers a `Plug`, the plug opens a `Runtime`; `driver` is where to read on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from ipaddress import IPv4Network
from pathlib import Path

import anyio
from longshore_core import EngineUnavailable, Facts, Host, Limit, NetworkMode, Plug, hookimpl
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
    async with open_engine(config.engine) as engine, anyio.create_task_group() as tasks:
        info = await _info(engine, host)
        async with _open_own_network(config, host, engine, info) as networks:
            parts = Parts(
                engine=engine,
                lookup=Lookup(engine, host.owner),
                events=Events(engine, host.logger),
                images=Images(engine, config, info.platform, tasks),
                places=Places(host.state_dir.resolve()),
                witness=Witness(),
                networks=networks,
                limits=_limits(info),
                rootless=info.rootless,
            )
            driver = PodmanDriver(config, host.owner, parts)
            health = Health(engine, parts.events, info)
            try:
                tasks.start_soon(parts.events.run)
                tasks.start_soon(driver.adopt)
                tasks.start_soon(parts.witness.run)
                tasks.start_soon(health.run)
                tasks.start_soon(parts.images.prepull, host.logger)
                if networks is not None:
                    tasks.start_soon(networks.keep_closed)
                    tasks.start_soon(networks.keep_ready)
                host.logger.info("podman_opened", extra={"version": info.version})
                yield _runtime(driver, parts, health, info)
            finally:
                tasks.cancel_scope.cancel()
                parts.witness.close()


async def _info(engine: Engine, host: Host) -> Info:
    """What the engine says of itself, or will most likely say: a worker can begin while its engine
    is down."""
    try:
        return await engine.info()
    except EngineUnavailable as exc:
        host.logger.warning("podman_unavailable", extra={"why": str(exc)})
        return Info.guessed()


def _runtime(driver: PodmanDriver, parts: Parts, health: Health, info: Info) -> Runtime:
    is_local = isinstance(parts.engine.address, UnixAddress)
    facts = Facts(
        limits=parts.limits,
        recovers=True,
        # A directory of ours is nothing to an engine elsewhere.
        sockets=is_local,
        mounts=is_local,
        network=NetworkMode.NONE if parts.networks is None else NetworkMode.BRIDGE,
        pause_with_memory=not info.rootless or info.cgroup_version == "v2",
    )
    engine, lookup = parts.engine, parts.lookup
    return Runtime(
        driver=driver,
        facts=facts,
        images=parts.images,
        health=health,
        pause=PodmanPauser(engine, lookup) if facts.pause_with_memory else None,
        usage=PodmanMeter(engine, lookup) if parts.limits else None,
        logs=PodmanLogs(engine, lookup),
        exec=PodmanExecutor(engine, lookup) if is_local else None,
    )


def _open_own_network(
    config: Config, host: Host, engine: Engine, info: Info
) -> AbstractAsyncContextManager[Networks | None]:
    """The worker's own network, where no other is named and where root can make it."""
    able = isinstance(engine.address, UnixAddress) and not info.rootless and os.geteuid() == 0
    if config.network is not None or not able:
        return nullcontext()
    # Told apart by place as well: two workers may have been given one name.
    mark = hashlib.sha256(f"{host.owner}\0{host.state_dir.resolve()}".encode()).hexdigest()[:8]
    plan = Plan(bridge=config.bridge, subnet=IPv4Network(config.subnet), mark=mark)
    return open_networks(plan, config.ready_networks, host.logger, host_access=config.host_access)


def _limits(info: Info) -> frozenset[Limit]:
    """What this engine enforces: by controllers, and by quotas of its file system."""
    known = {"cpu": Limit.CPU, "memory": Limit.MEMORY, "pids": Limit.PIDS}
    limits = {known[name] for name in info.controllers if name in known}
    return frozenset(limits | ({Limit.DISK} if _has_quotas(info) else set()))


def _has_quotas(info: Info) -> bool:
    if info.storage_driver != "overlay" or info.backing != "xfs":
        return False
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [fields for fields in mounts if Path(info.storage_path).is_relative_to(fields[1])]
    nearest = max(above, key=lambda fields: len(fields[1]), default=None)
    return nearest is not None and bool({"prjquota", "pquota"} & set(nearest[3].split(",")))
