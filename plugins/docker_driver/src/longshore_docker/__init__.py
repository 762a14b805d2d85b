"""A Longshore driver that runs containers on a Docker engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from longshore_core import (
    BackendError,
    EngineUnavailable,
    Facts,
    Host,
    Limit,
    LongshoreError,
    NetworkMode,
    Plug,
    hookimpl,
)
from longshore_core.abc import Runtime

from longshore_docker.answers import Info
from longshore_docker.config import Config as Config
from longshore_docker.driver import DockerDriver as DockerDriver
from longshore_docker.driver import Edges
from longshore_docker.engine import Engine
from longshore_docker.events import Events
from longshore_docker.health import Health
from longshore_docker.images import Images
from longshore_docker.inside import Counters, Freezer, Logs, Processes
from longshore_docker.networks import Networks
from longshore_docker.quotas import limits_disk
from longshore_docker.sockets import Sockets
from longshore_docker.streams import Streams

__version__ = "0.1.0"

_LOOK_SECONDS = 5
_CLOSE_SECONDS = 25.0
"""With what is under way when it begins. The kernel waits for 30."""


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    """Offer the driver `docker`."""
    return Plug(config=Config, open=open_docker)


@asynccontextmanager
async def open_docker(config: Config, host: Host) -> AsyncGenerator[Runtime, None]:
    """Open the driver, also on an engine that is away. Its containers outlive it."""
    engine = Engine(config.engine, config.startup_timeout_seconds, host.logger)
    streams = Streams(engine)
    events = Events(streams)
    networks = Networks(config, host, engine, events)
    sockets = await anyio.to_thread.run_sync(Sockets, host.state_dir, host.owner, host.logger)
    mountinfo = await anyio.to_thread.run_sync(_mountinfo) if config.is_local else []
    facts = facts_of(config, await _look(engine, host), mountinfo)
    try:
        async with anyio.create_task_group() as tasks:
            images = Images(config, engine, streams, tasks)
            edges = Edges(
                engine=engine, events=events, images=images, networks=networks, sockets=sockets
            )
            tasks.start_soon(events.run)
            tasks.start_soon(networks.run)
            for reference in config.prepull:
                tasks.start_soon(_prepull, reference, images, events, host)
            driver = DockerDriver(config, host, edges)
            try:
                yield Runtime(
                    driver=driver,
                    facts=facts,
                    images=images,
                    health=Health(engine, events, local=config.is_local),
                    pause=Freezer(driver, engine),
                    usage=Counters(driver, engine),
                    logs=Logs(driver, streams),
                    exec=Processes(driver, edges, streams, config.is_local),
                )
            finally:
                engine.hurry(_CLOSE_SECONDS)
                tasks.cancel_scope.cancel()
    finally:
        await networks.close()
        with anyio.CancelScope(shield=True):
            await streams.aclose()
            engine.close()


async def _prepull(reference: str, images: Images, events: Events, host: Host) -> None:
    """Have an image there, as soon as there is an engine."""
    with events.listening() as ear:
        while True:
            try:
                await images.have(reference)
            except EngineUnavailable:
                await ear.wait()
            except LongshoreError as exc:
                # Whoever asks for it later pulls it, and is told.
                host.logger.warning("docker_image_not_pulled", extra={"why": str(exc)})
                return
            else:
                return


async def _look(engine: Engine, host: Host) -> Info | None:
    """The engine, if it answers. That it does not is nothing to fail for: it may come back."""
    try:
        with anyio.fail_after(_LOOK_SECONDS):
            info = await engine.info()
    except (BackendError, TimeoutError) as exc:
        host.logger.warning("docker_engine_away", extra={"why": str(exc)})
        return None
    host.logger.info("docker_opened", extra={"engine": info.version, "platform": info.platform})
    return info


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()


def facts_of(config: Config, info: Info | None, mountinfo: Sequence[str]) -> Facts:
    """What holds for its containers. Of an engine that is away, the usual is assumed."""
    able = {
        Limit.MEMORY: info is None or info.limits_memory,
        Limit.CPU: info is None or info.limits_cpu,
        Limit.PIDS: info is None or info.limits_pids,
        Limit.DISK: info is not None and limits_disk(info.storage, info.directory, mountinfo),
    }
    return Facts(
        limits=frozenset(limit for limit, is_able in able.items() if is_able),
        sockets=config.is_local,
        recovers=True,
        images=True,
        pause_with_memory=True,
        mounts=config.is_local,
        network=NetworkMode.NONE if config.network == "none" else NetworkMode.BRIDGE,
        create_seconds=config.pull_timeout_seconds + config.startup_timeout_seconds,
        start_seconds=config.startup_timeout_seconds,
    )
