"""What private engines leave on the host, and how their end is seen."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

_BESIDE: Final = ("containerd-shim", "conmon", "runc", "crun")
_CONTAINER: Final = re.compile(r"\b[0-9a-f]{64}\b")
_STOP_SECONDS: Final = 60.0


def spawn(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a service that is nobody's child: it outlives its starter, and leaves it no zombie."""
    script = 'exec 3>&1 >>"$0" 2>&1 </dev/null; setsid "$@" 3>&- & echo $! >&3'
    command = ["sh", "-c", script, str(log), *argv]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def wait_gone(pid: int) -> None:
    """Wait for a process to end."""
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        if has_ended(pid):
            return
        time.sleep(0.02)
    raise RuntimeError(f"process {pid} does not stop")


def has_ended(pid: int) -> bool:
    """Also when nobody has reaped it yet. Its command line tells nothing: while it becomes another
    program, it has none for a moment."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def command_line(process: Path) -> str:
    """Empty for one that has ended."""
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def container_ids() -> set[str]:
    """The engines' own ids of all containers that this host has anything of."""
    return {id_ for text in _texts() for id_ in _CONTAINER.findall(text)}


def traces(id_: str) -> list[str]:
    """What this host has of a container."""
    return [text for text in _texts() if id_ in text]


def _texts() -> Iterator[str]:
    """Control groups, also empty ones, and how those were called who are beside containers."""
    for place, names, _ in os.walk("/sys/fs/cgroup"):
        yield from (f"{place}/{name}" for name in names)
    lines = (command_line(entry) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    # Others have digests of other things on theirs.
    yield from (line for line in lines if line.split(" ")[0].rpartition("/")[2].startswith(_BESIDE))


def mounts(directory: Path) -> list[str]:
    """What is mounted below it, in the order of mounting."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(f"{directory}/")]
