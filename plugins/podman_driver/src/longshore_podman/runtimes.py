"""The runtimes that make containers for the engine: what of them it drops, and what it forgets."""

from __future__ import annotations

import anyio.to_thread
from longshore_core import UnsupportedCapability
from longshore_core.address import UnixAddress

from longshore_podman.answers import Container
from longshore_podman.commands import run
from longshore_podman.engine import Engine
from longshore_podman.monitors import kill_monitor, stop_monitors


async def check_runtime(engine: Engine, id_: str, wanted: str | None) -> None:
    """Raise UnsupportedCapability when the engine has dropped the runtime that it was asked for, as
    Podman 4.3 does without a word: what isolates more is asked for in earnest."""
    if wanted is None:
        return
    container = await engine.container(id_)
    if container is not None and container.runtime != wanted:
        raise UnsupportedCapability(
            f"this Podman has made it with {container.runtime}, and not with {wanted}"
            " (driver.runtime): name that as `runtime` in the [engine] of the service's"
            " containers.conf"
        )


async def end_half_begun(engine: Engine, container: Container) -> None:
    """End what a runtime has made of a container of which the engine does not know that: it was
    killed before it could note it. It would neither start such a one nor take all of it away.

    Raises BackendError when the runtime does not; the next attempt finds what it needs.
    """
    if container.is_begun or not isinstance(engine.address, UnixAddress):
        return
    for monitor in await anyio.to_thread.run_sync(stop_monitors, container.id):
        more = {"XDG_RUNTIME_DIR": monitor.place} if monitor.place else None
        await run([*monitor.runtime, "delete", "--force", container.id], more=more)
        await anyio.to_thread.run_sync(kill_monitor, monitor)
