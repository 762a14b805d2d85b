"""The sandbox daemon: what runs as PID 1 in a sandbox, and how it gets there.

The plugin assembles a portable runtime from the worker's own interpreter once, and launches every
sandbox with it, whatever its image holds. `longshore_daemon.inside` is what then runs in there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from longshore_core import Host, Plug, hookimpl
from longshore_core.abc import Guest
from pydantic import AfterValidator, BaseModel, Field

from longshore_daemon.guest import DaemonSession as DaemonSession
from longshore_daemon.guest import Options as Options
from longshore_daemon.guest import Patience as Patience
from longshore_daemon.guest import SandboxDaemon as SandboxDaemon
from longshore_daemon.runtime import PortableRuntime as PortableRuntime
from longshore_daemon.runtime import assemble as assemble


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    try:
        IPv4Address(host)
    except ValueError:
        port = ""
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(
            f"an IPv4 address and a port are wanted, such as 127.0.0.1:9500, not {text}"
        )
    return text


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
    output_total_bytes: int = Field(default=4 << 30, ge=1 << 20)
    """How much disk is taken for what all processes of a sandbox have written, together; never more
    than a quarter of it. Those that have ended are forgotten for that, the oldest first; those that
    run then keep no more than they have, or 1 MiB of each stream."""
    grpc_listen: Annotated[str, AfterValidator(_address)] | None = None
    """Where, inside a container, gRPC is served besides its Unix socket: `127.0.0.1:9500`. Whoever
    reaches it can ask for its health; the rest wants the sandbox's token."""
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
    options = Options(
        files_root=config.files_root,
        output_bytes=config.output_limit_bytes,
        output_total_bytes=config.output_total_bytes,
        grpc=config.grpc_listen,
    )
    yield SandboxDaemon(runtime, patience, options)


@hookimpl
def longshore_guest() -> Plug[Config, Guest]:
    return Plug(config=Config, open=open_daemon)
