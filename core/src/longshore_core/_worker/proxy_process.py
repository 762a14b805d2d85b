"""The proxy's process, where nobody else looks after it.

It is a process of its own, in a session of its own, so that it and the streams through it outlive
a crash of the worker; the next worker finds it by its lock and leaves it be.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import anyio
import structlog
from anyio import to_thread

from longshore_core._errors import ConfigError

LOCK: Final = "proxy.lock"
CHECK_SECONDS: Final = 2.0
STOP_SECONDS: Final = 5.0
_REFUSED: Final = 2

log = structlog.stdlib.get_logger("longshore_core.http_proxy")


def holder(state_dir: Path) -> int | None:
    """The pid of the proxy that holds `state_dir`, or `None`."""
    try:
        descriptor = os.open(state_dir / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


async def keep_proxy(state_dir: Path, config: Path | None) -> None:
    """See to it that a proxy runs, until cancelled; one that runs already is left alone.

    Raises ConfigError when the proxy refuses its configuration.
    """
    while True:
        if holder(state_dir) is None:
            code = await _run_proxy(config)
            if code == _REFUSED:
                raise ConfigError("http_proxy", "the proxy could not start; its error is above")
            log.warning("Proxy ended; starting it again", exit_code=code)
        await anyio.sleep(CHECK_SECONDS)


async def stop_proxy(state_dir: Path) -> None:
    """Ask the proxy that holds `state_dir` to end, and wait for it a while."""
    pid = holder(state_dir)
    if not pid:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, number)
            with anyio.move_on_after(STOP_SECONDS):
                await anyio.wait_readable(descriptor)
                return
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


async def _run_proxy(config: Path | None) -> int:
    command = [sys.executable, "-m", "longshore_core", "proxy"]
    if config is not None:
        command += ["--config", str(config)]
    process = await to_thread.run_sync(_spawn, command)
    descriptor = os.pidfd_open(process.pid)
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    return process.wait()


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
