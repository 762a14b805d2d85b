"""Whose programs a host can run: its own, and those that it has an emulator for.

For drivers whose images say what they are for: `linux/arm64`, sometimes with a variant behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

EMULATORS: Final = Path("/proc/sys/fs/binfmt_misc")
_BY_EMULATORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "386": "i386",
        "amd64": "x86_64",
        "arm64": "aarch64",
        "loong64": "loongarch64",
        "mips64le": "mips64el",
    }
)
"""What QEMU calls a processor otherwise than images do."""


def can_run(platform: str, native: str, emulators: Path = EMULATORS) -> bool:
    """Whether programs of a platform run on a host of this kernel whose own is `native`."""
    own, wanted = native.split("/")[1], platform.split("/")[1]
    if own == wanted or (own, wanted) == ("amd64", "386"):
        return True
    return (emulators / f"qemu-{_BY_EMULATORS.get(wanted, wanted)}").exists()
