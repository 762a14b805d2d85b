"""A clock for what has to be prompt, on machines that are not always there.

A virtual machine's processors are taken away from it at times, for most of a second in every
second when its host is busy. Nothing on it is prompt then, and nothing can be told about the
program that is being timed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STEAL: Final = 8
"""The column of proc_stat(5), counted from the line's name."""


def stolen_seconds() -> float:
    """For how long this machine's processors were somebody else's, all of them added up."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        return int(file.readline().split()[_STEAL]) / _TICKS


def fair_time() -> float:
    """Seconds, as `time.monotonic()` has them, less those that were stolen.

    For the question whether something took *longer* than it may, and for no other: from one moment
    to a later one it may even go back.
    """
    return time.monotonic() - stolen_seconds()
