"""`fork_exec`, open only once for an owner: as a driver may be that has something of its own."""

from __future__ import annotations

import fcntl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import longshore_forkexec
from longshore_core import BackendError, Host, Plug
from longshore_core.abc import Runtime

_OPEN: Final = set[str]()
"""Of this process, which a lock of the kind that is taken does not shut out."""


@asynccontextmanager
async def open_exclusive(config: Any, host: Host) -> AsyncGenerator[Runtime]:
    quiet = config.model_copy(update={"cgroup": "off"})
    if host.owner in _OPEN:
        raise BackendError(f"{host.owner} is here already")
    with (host.state_dir / "lock").open("w") as lock:
        try:
            # Not flock: a child that has not yet become a program would hold that, too, for the
            # milliseconds by which it outlives a worker that is killed while it starts one.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackendError(f"{host.owner} has another worker") from None
        _OPEN.add(host.owner)
        try:
            async with longshore_forkexec.open_fork_exec(quiet, host) as runtime:
                yield runtime
        finally:
            _OPEN.remove(host.owner)


def driver() -> Plug[Any, Runtime]:
    return Plug(config=longshore_forkexec.Config, open=open_exclusive)
