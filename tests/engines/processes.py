"""What private engines leave on the host, and how their end is seen."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

_STOP_SECONDS: Final = 30.0


def wait_gone(pid: int) -> None:
    """Wait for a process to end: a child is reaped, and what another process has not reaped yet has
    no command line any more."""
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not command_line(Path("/proc", str(pid))):
            return
        time.sleep(0.02)
    raise RuntimeError(f"process {pid} does not stop")


def command_line(process: Path) -> str:
    """Empty for one that has ended."""
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def mounts(directory: Path) -> list[str]:
    """What is mounted below it, in the order of mounting."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(f"{directory}/")]
