"""Where the model keeps its containers when it is closed: one file an owner, gone when it is empty.

It stands for the engine of a real driver, which goes on when the worker does not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from longshore_core._model import ContainerSpec, Exit, Phase, Stream


@dataclass(slots=True, kw_only=True)
class Record:
    """One container, and its program as far as it has come."""

    spec: ContainerSpec
    phase: Phase = Phase.CREATED
    exit: Exit | None = None
    traps: dict[str, str] = field(default_factory=dict[str, str])
    wakes_at: float | None = None
    then: list[str] = field(default_factory=list[str])
    """What the program does when it has slept."""
    output: list[tuple[Stream, str]] = field(default_factory=list[tuple[Stream, str]])
    paused: bool = False
    remaining: float | None = None
    """Of what it slept when it was paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    now: float = 0.0
    records: tuple[Record, ...] = ()


_WORLD: Final = TypeAdapter(World)


def world_file(state_dir: Path, owner: str) -> Path:
    return state_dir / f"world-{hashlib.sha256(owner.encode()).hexdigest()[:12]}.json"


def load_world(file: Path) -> World:
    try:
        return _WORLD.validate_json(file.read_bytes())
    except FileNotFoundError:
        return World()


def save_world(file: Path, world: World) -> None:
    if not world.records:
        file.unlink(missing_ok=True)
        return
    # Beside its place first, and not in it: a worker may be killed at any moment.
    draft = file.with_suffix(".new")
    draft.write_bytes(_WORLD.dump_json(world))
    draft.replace(file)
