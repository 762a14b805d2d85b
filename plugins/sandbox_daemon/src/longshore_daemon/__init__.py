"""The sandbox daemon: what runs as PID 1 in a sandbox, and how it gets there.

The plugin assembles a portable runtime from the worker's own interpreter once, and launches every
sandbox with it, whatever its image holds. `longshore_daemon.inside` is what then runs in there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from longshore_core import Host, Plug, hookimpl
from longshore_core.abc import Guest
from pydantic import BaseModel, Field

from longshore_daemon.guest import DaemonSession as DaemonSession
from longshore_daemon.guest import Limits as Limits
from longshore_daemon.guest import Patience as Patience
from longshore_daemon.guest import SandboxDaemon as SandboxDaemon
from longshore_daemon.runtime import PortableRuntime as PortableRuntime
from longshore_daemon.runtime import assemble as assemble


class Config(BaseModel, extra="forbid", frozen=True):
    """What an operator can say about the daemon. The defaults suit."""

    runtime_dir: Path | None = None
    """Where runtimes are kept; by default in the plugin's own state directory. Drivers without
    mounts execute from there, so it must not be mounted `noexec`."""
    start_timeout_secs: float = Field(default=30.0, gt=0)
    call_timeout_secs: float = Field(default=5.0, gt=0)
    stop_grace_secs: float = Field(default=10.0, gt=0)
    output_limit_bytes: int = Field(default=2 << 30, ge=1 << 20)
    """How much disk is taken for what a process has written, for each of its two streams: the
    latest stays. Readers are told the range of what they missed."""
    files_root: str | None = Field(default=None, pattern="^/")
    """Where a sandbox's files API is confined to, in there: nothing outside of it can be named or
    reached by links. By default, all that its user may reach."""


@asynccontextmanager
async def open_daemon(config: Config, host: Host) -> AsyncGenerator[Guest, None]:
    """Assemble the runtime if need be. Nothing is undone at the end: containers may run it."""
    runtimes = config.runtime_dir or host.state_dir / "runtimes"
    assembler = CapacityLimiter(1)
    runtime = await to_thread.run_sync(assemble, runtimes, limiter=assembler)
    patience = Patience(
        start=config.start_timeout_secs,
        call=config.call_timeout_secs,
        grace=config.stop_grace_secs,
    )
    limits = Limits(files_root=config.files_root, output_bytes=config.output_limit_bytes)
    yield SandboxDaemon(runtime, patience, limits)


@hookimpl
def longshore_guest() -> Plug[Config, Guest]:
    return Plug(config=Config, open=open_daemon)
