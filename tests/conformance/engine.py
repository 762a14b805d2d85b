"""The reference driver's engine, which can be taken away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileEngine:
    """Away while there is a file."""

    file: Path

    async def stop(self) -> None:
        self.file.touch()

    async def start(self) -> None:
        self.file.unlink()
