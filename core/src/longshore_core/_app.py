"""The worker's composition root: config → plugins → one task group."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar, cast

import anyio
import structlog
from anyio.abc import TaskStatus

from longshore_core import KernelBug, Limit, PluginContractError, __version__
from longshore_core._machine.ledger import Ledger
from longshore_core._machine.life import Terminated
from longshore_core._plugins import hooks
from longshore_core._plugins.hooks import Selected
from longshore_core._plugins.opening import AdaptedDriver, opened
from longshore_core._settings import Choice, WorkerSettings
from longshore_core._wire import convert
from longshore_core._wire.channel import open_channel
from longshore_core._wire.link import Identity, ServerLink
from longshore_core._worker.clock import steady_clock
from longshore_core._worker.desk import KeepersDesk
from longshore_core._worker.effects import Backends, Blamed, Deadlines, Performer
from longshore_core._worker.engine import EngineWatch
from longshore_core._worker.identity import executor_id, locked_state_dir
from longshore_core._worker.keeper import Keeper, Keeping
from longshore_core._worker.lanes import Boundary, Lanes
from longshore_core._worker.monitoring import Page, Pages, page, serve_monitoring
from longshore_core._worker.proxy_process import holder, keep_proxy, stop_proxy
from longshore_core._worker.resources import probe
from longshore_core._worker.routes import RouteFeed
from longshore_core._worker.store import open_store
from longshore_core._worker.transitions import Transitions
from longshore_core.abc import Host, Runtime
from longshore_core.process.config import redact

ThingT = TypeVar("ThingT")

STORE: Final = "worker.sqlite"
SWEEP_SECONDS: Final = 30.0
DRAIN_SLACK_SECONDS: Final = 5.0

log = structlog.stdlib.get_logger("longshore_core.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRun:
    """How to run a worker: what is not its configuration."""

    settings: WorkerSettings
    stop: Callable[[], Awaitable[str]]
    """Returns, with the reason, when the worker should stop."""
    config_file: Path | None = None
    with_proxy: bool = True
    """Whether the worker sees to the proxy's process itself."""
    expects_proxy: bool = True
    """Whether there will be one at all: the first heartbeat gives it a moment to connect."""
    boundary: Boundary = lambda _point: None


async def run_worker(
    run: WorkerRun, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Run a worker until it is asked to stop; starts when it has recovered.

    Raises ConfigError and PluginError before it takes any work, KernelBug when it must not go on.
    """
    settings, ask = run.settings, _StopAsked()
    log.info("Worker starts", version=__version__, config=redact(settings))
    if idle := _idle_keys(settings):
        log.warning("These keys have no effect in this version", keys=idle)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask.listen, run.stop)
            with ask.start:
                await _assemble(run, ask, task_status)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        sole = hooks.innermost(group)
        raise sole from sole.__cause__


async def _assemble(run: WorkerRun, ask: _StopAsked, task_status: TaskStatus[None]) -> None:
    settings = run.settings
    with locked_state_dir(settings.state_dir):
        identity = executor_id(settings.executor_id, settings.state_dir)
        structlog.contextvars.bind_contextvars(executor_id=identity)
        transitions = Transitions()
        async with AsyncExitStack() as stack:
            backends = await stack.enter_async_context(_backends(settings, identity, transitions))
            store = await stack.enter_async_context(open_store(settings.state_dir / STORE))
            channel = open_channel(settings.server_addr, settings.tls)
            stack.push_async_callback(channel.close, 0)
            routes = RouteFeed(awaited=run.expects_proxy)
            resources = probe(settings.state_dir, settings.resource_overrides)
            keeper = Keeper(
                Keeping(
                    store=store,
                    routes=routes,
                    transitions=transitions,
                    clock=steady_clock(settings.state_dir),
                    grace_seconds=settings.stop_grace_secs,
                    boundary=run.boundary,
                ),
                Ledger(total=resources.capacity()),
            )
            host = convert.Host(
                hostname=socket.gethostname() or "localhost",
                version=__version__,
                cpu_count=resources.cpu_count,
                memory_bytes=resources.memory_bytes,
                disk_bytes=resources.disk_bytes,
                proxy_address=settings.http_proxy.advertised,
                labels=settings.labels,
                allowlist=settings.function_allowlist,
            )
            desk = KeepersDesk(keeper, routes)
            me = Identity(executor_id=identity, host=host, server_addr=settings.server_addr)
            link = ServerLink(channel, desk, me)
            parts = _Parts(backends, keeper, routes, link, identity)
            await _work(run, parts, ask, task_status)


def _idle_keys(settings: WorkerSettings) -> list[str]:
    """The keys that the configuration sets and nothing reads yet: better said than found out."""
    idle = {
        "telemetry": settings.telemetry.model_fields_set,
        "function_driver": settings.function_driver,
        "function_executor": settings.function_executor.model_fields_set,
        "daemon_binary_extract_path": settings.daemon_binary_extract_path,
        "default_function_image": settings.default_function_image,
    }
    return [key for key, value in idle.items() if value]


@dataclass(frozen=True, slots=True)
class _Parts:
    backends: Backends
    keeper: Keeper
    routes: RouteFeed
    link: ServerLink
    executor_id: str


class _StopAsked:
    """Whether somebody has asked the worker to stop: listened for from the very start.

    An engine that does not answer, or a large survey, can keep a worker from being up for long.
    """

    def __init__(self) -> None:
        self._reason = ""
        self._asked = anyio.Event()
        self._is_up = False
        self.start = anyio.CancelScope()
        """Around all that the worker does: what is not up yet is ended by cancellation."""

    async def listen(self, stop: Callable[[], Awaitable[str]]) -> None:
        self._reason = await stop()
        self._asked.set()
        if not self._is_up:
            log.info("Worker stops before it was up", reason=self._reason)
            self.start.cancel()

    async def wait(self) -> str:
        """The worker is up, and waits for the reason to stop."""
        self._is_up = True
        await self._asked.wait()
        return self._reason


async def _work(
    run: WorkerRun, parts: _Parts, ask: _StopAsked, task_status: TaskStatus[None]
) -> None:
    settings, keeper, link = run.settings, parts.keeper, parts.link
    facts = parts.backends.driver.facts
    deadlines = Deadlines.of(facts, release=settings.startup_timeout_secs)
    performer = Performer(parts.backends, parts.executor_id, deadlines)
    async with anyio.create_task_group() as tasks:
        engine = EngineWatch(parts.backends.driver)
        tasks.start_soon(engine.follow)
        await tasks.start(serve_monitoring, settings.monitoring, _pages(parts, engine))
        lanes = Lanes(tasks, performer, keeper.post, run.boundary)
        await keeper.recover(lanes, parts.backends.driver.survey)
        tasks.start_soon(_critical, keeper.run)
        # Only now: a proxy that lost its worker must not be told that there are no routes.
        await tasks.start(parts.routes.serve, settings.state_dir)
        tasks.start_soon(_sweep, keeper, lanes, parts.backends.driver)
        async with anyio.create_task_group() as linked:
            if run.with_proxy:
                linked.start_soon(keep_proxy, settings.state_dir, run.config_file)
            linked.start_soon(_critical, link.run)
            unheld = sorted(
                str(each) for each in {Limit.CPU, Limit.MEMORY, Limit.DISK} - facts.limits
            )
            log.info("Worker is up", containers=len(keeper.containers), limits_not_enforced=unheld)
            task_status.started()
            reason = await ask.wait()
            log.info("Worker stops", reason=reason, containers_are=settings.on_exit)
            linked.cancel_scope.cancel()
        await _drain(run, parts)
        tasks.cancel_scope.cancel()


async def _critical(task: Callable[[], Awaitable[None]]) -> None:
    """Run what the worker cannot do without: its end, without an error, is an error."""
    await task()
    raise KernelBug(f"{task} has ended by itself")


async def _drain(run: WorkerRun, parts: _Parts) -> None:
    """End in order: containers as the config says, then reports, then the proxy."""
    settings = run.settings
    remove = settings.on_exit == "remove"
    if remove:
        with anyio.move_on_after(settings.stop_grace_secs + DRAIN_SLACK_SECONDS) as late:
            await parts.keeper.remove_all("the worker stops")
        if late.cancelled_caught:
            log.warning("Some containers could not be removed in time; the next start will")
    await parts.link.farewell(stopped=remove)
    live = sum(not isinstance(item.life, Terminated) for item in parts.keeper.containers.values())
    if run.with_proxy and not live:
        await stop_proxy(settings.state_dir)
    elif live:
        log.info("Left running", containers=live, proxy_pid=holder(settings.state_dir))


async def _sweep(keeper: Keeper, lanes: Lanes, driver: AdaptedDriver) -> None:
    """Remove what bears our mark and is in no record: a removal that failed, a lost create."""
    while True:
        await anyio.sleep(SWEEP_SECONDS)
        await keeper.sweep(lanes, driver.survey)


@asynccontextmanager
async def _backends(
    settings: WorkerSettings, identity: str, transitions: Transitions
) -> AsyncGenerator[Backends]:
    """Find, check and open every plugin that the config names; all are checked before any opens."""
    driver_path = "sandbox_driver" if settings.sandbox_driver else "driver"
    driver = hooks.select(hooks.DRIVERS, settings.sandboxes.type, f"{driver_path}.type")
    guest = hooks.select(hooks.GUESTS, settings.guest.type)
    network = hooks.select(hooks.NETWORKS, settings.network.type)
    secrets = hooks.select(hooks.SECRETS, settings.secrets.type)
    if settings.function_driver is not None:
        hooks.select(hooks.DRIVERS, settings.function_driver.type, "function_driver.type")
    admission = hooks.admission(
        settings.admission, [item.loaded for item in (driver, guest, network, secrets)]
    )
    async with AsyncExitStack() as stack:

        async def open_(selected: Selected[ThingT], choice: Choice, path: str) -> ThingT:
            host = _host(settings.state_dir, identity, path, selected.origin.name, transitions)
            return await stack.enter_async_context(opened(selected, choice.options, host, path))

        if settings.snapshot_registry is not None:
            registry = hooks.select(hooks.REGISTRIES, settings.snapshot_registry.type)
            await open_(registry, settings.snapshot_registry, "snapshot_registry")
        runtime = await open_(driver, settings.sandboxes, driver_path)
        if not isinstance(cast("object", runtime), Runtime):
            found = type(runtime).__name__
            raise PluginContractError(driver.origin.label, f"opened a {found}, not a Runtime")
        yield Backends(
            driver=AdaptedDriver(runtime, driver.origin),
            guest=Blamed(thing=await open_(guest, settings.guest, "guest"), origin=guest.origin),
            network=Blamed(
                thing=await open_(network, settings.network, "network"), origin=network.origin
            ),
            secrets=Blamed(
                thing=await open_(secrets, settings.secrets, "secrets"), origin=secrets.origin
            ),
            admission=admission,
        )


def _host(state_dir: Path, identity: str, slot: str, name: str, transitions: Transitions) -> Host:
    directory = state_dir.absolute() / slot / name
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Host(
        name=name,
        owner=f"{identity}/{slot}",
        state_dir=directory,
        logger=logging.getLogger(f"longshore.{slot}.{name}"),
        transitions=transitions.subscribe,
    )


def _pages(parts: _Parts, engine: EngineWatch) -> Pages:
    health = parts.link.health

    def startup() -> Page:
        return page(200, {"status": "ok"}) if health.ever_ready else page(503, {"status": "nok"})

    def healthy() -> Page:
        checker = {"checker": "DataplaneHealthChecker"}
        if not health.healthy:
            return page(503, {"status": "nok", "message": "heartbeat unhealthy", **checker})
        if engine.complaint is not None:
            return page(503, {"status": "nok", "message": engine.complaint, **checker})
        if parts.keeper.quarantined:
            message = f"{parts.keeper.quarantined} containers are quarantined"
            return page(503, {"status": "nok", "message": message, **checker})
        return page(200, {"status": "ok", "message": "Successful", **checker})

    def reported() -> Page:
        return Page(status=200, body=health.last_report or "No state reported so far")

    def desired() -> Page:
        containers = parts.keeper.containers.values()
        lines = [f"{item.id} {item.life.tag}" for item in containers]
        return Page(status=200, body="\n".join(lines) or "No containers are wanted")

    def engine_state() -> Page:
        latest = engine.latest
        return page(200, {} if latest is None else asdict(latest))

    return {
        "/monitoring/startup": startup,
        "/monitoring/health": healthy,
        "/state/reported": reported,
        "/state/desired": desired,
        "/state/engine": engine_state,
    }
