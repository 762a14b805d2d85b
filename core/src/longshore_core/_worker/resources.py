"""What this host has to give."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from longshore_core._machine.ledger import Capacity
from longshore_core._settings import ResourceOverrides

HOST_PROC: Final = Path("/host/proc")
"""Where the host's own /proc is mounted when the worker runs in a container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResources:
    cpu_count: int
    memory_bytes: int
    disk_bytes: int

    def capacity(self) -> Capacity:
        return Capacity(
            cpu_millis=self.cpu_count * 1000,
            memory_bytes=self.memory_bytes,
            disk_bytes=self.disk_bytes,
        )


def probe(state_dir: Path, overrides: ResourceOverrides) -> HostResources:
    """Count processors, memory, and the file system that `state_dir` is on; then the overrides."""
    if HOST_PROC.is_dir():
        cpus = (HOST_PROC / "cpuinfo").read_text().count("\nprocessor") + 1
        memory = _mem_total(HOST_PROC / "meminfo")
    else:
        cpus = len(os.sched_getaffinity(0))
        memory = psutil.virtual_memory().total
    return HostResources(
        cpu_count=overrides.cpu_count or cpus,
        memory_bytes=overrides.memory_bytes or memory,
        disk_bytes=overrides.disk_bytes or psutil.disk_usage(str(state_dir)).total,
    )


def _mem_total(file: Path) -> int:
    fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    return int(fields["MemTotal"].split()[0]) * 1024
