"""A Longshore driver that runs containers as processes of this host.

It also is the template for a driver of your own. Read from here: the hook offers a `Plug`, the
plug opens a `Runtime`, and the runtime holds the driver.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from longshore_core import BackendError, Facts, Host, NetworkMode, Plug, hookimpl
from longshore_core.abc import Runtime

from longshore_forkexec.cgroups import Cgroups, open_cgroups
from longshore_forkexec.config import Config as Config
from longshore_forkexec.directories import Directories
from longshore_forkexec.driver import ForkExecDriver as ForkExecDriver

__version__ = "0.1.0"


@hookimpl
def longshore_driver() -> Plug[Config, Runtime]:
    """Offer the driver `fork_exec`."""
    return Plug(config=Config, open=open_fork_exec)


@asynccontextmanager
async def open_fork_exec(config: Config, host: Host) -> AsyncGenerator[Runtime, None]:
    """Open the driver on what earlier ones have left. Its containers outlive it."""
    groups = await anyio.to_thread.run_sync(_prepare, config, host)
    facts = Facts(
        limits=groups.limits,
        recovers=True,
        images=False,
        mounts=False,
        network=NetworkMode.NONE,
    )
    host.logger.info("fork_exec_opened", extra={"limits": sorted(groups.limits)})
    try:
        yield Runtime(driver=ForkExecDriver(config, host, groups), facts=facts)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(groups.close)


def _prepare(config: Config, host: Host) -> Cgroups:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as exc:
        raise BackendError("fork_exec needs Linux 5.4 or later") from exc
    Directories(host.state_dir, host.owner).sweep(host.logger)
    if config.cgroup == "off":
        return Cgroups([])
    # Told apart by place as well, so that a test may reuse an owner's name.
    mark = hashlib.sha256(f"{host.owner}\0{host.state_dir.resolve()}".encode()).hexdigest()[:16]
    return open_cgroups(mark)
