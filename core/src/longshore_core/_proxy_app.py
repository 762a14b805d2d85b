"""The proxy's composition root: config → middlewares → one server."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import structlog

from longshore_core._heads import Layer
from longshore_core._model import Gap, Transition
from longshore_core._plugins import hooks
from longshore_core._plugins.opening import opened
from longshore_core._proxy.serve import KeepAlive, ProxySettings, Timeouts, serve_proxy
from longshore_core._settings import WorkerSettings
from longshore_core.abc import Host

log = structlog.stdlib.get_logger("longshore_core.http_proxy")


async def run_proxy(settings: WorkerSettings, stop: Callable[[], Awaitable[str]]) -> None:
    """Run a worker's proxy until it is asked to stop. Raises ConfigError, PluginError."""
    directory = settings.state_dir
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        layers = await _middlewares(settings, stack)
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve_proxy, proxy_settings(settings, layers))
            log.info("Proxy stops", reason=await stop())
            tasks.cancel_scope.cancel()


def proxy_settings(settings: WorkerSettings, layers: list[Layer]) -> ProxySettings:
    """What the proxy itself needs of the worker's configuration."""
    http, upstream = settings.http_proxy, settings.http_proxy.upstream
    return ProxySettings(
        state_dir=settings.state_dir,
        listen_addr=http.listen_addr,
        port=http.port,
        extra_ports=http.extra_ports,
        timeouts=Timeouts(
            connect_seconds=upstream.connection_timeout_secs,
            read_seconds=upstream.read_timeout_secs,
            write_seconds=upstream.write_timeout_secs,
            upstream_idle_seconds=upstream.idle_timeout_secs,
        ),
        keepalive=KeepAlive(
            idle_seconds=int(upstream.keepalive_idle_secs),
            interval_seconds=int(upstream.keepalive_interval_secs),
            count=upstream.keepalive_count,
        ),
        middlewares=layers,
    )


async def _middlewares(settings: WorkerSettings, stack: AsyncExitStack) -> list[Layer]:
    chosen = [
        (f"http_proxy.middlewares.{index}", choice)
        for index, choice in enumerate(settings.http_proxy.middlewares)
    ]
    selected = [
        hooks.select(hooks.MIDDLEWARES, choice.type, f"{path}.type") for path, choice in chosen
    ]
    layers: list[Layer] = []
    for (path, choice), plugin in zip(chosen, selected, strict=True):
        directory = settings.state_dir.absolute() / "middlewares" / plugin.origin.name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        host = Host(
            name=plugin.origin.name,
            owner=path,
            state_dir=directory,
            logger=logging.getLogger(f"longshore.middlewares.{plugin.origin.name}"),
            transitions=_no_transitions,
        )
        layers.append(await stack.enter_async_context(opened(plugin, choice.options, host, path)))
    return layers


@asynccontextmanager
async def _no_transitions() -> AsyncGenerator[AsyncIterator[Transition | Gap]]:
    """The proxy sees routes, not containers: nothing is ever observed here."""

    async def nothing() -> AsyncGenerator[Transition | Gap]:
        await anyio.sleep_forever()
        yield Gap(first=0, last=0)

    yield nothing()
