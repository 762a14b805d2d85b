"""What a chaos run does, decided by its seed alone: the lives, the steps, the faults."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias, get_args

from longshore_core._machine.life import Order
from longshore_core._model import ContainerId, Limits
from longshore_core.testing.faulty import Fault, Point
from longshore_core.testing.scripted import ErrorName

MOST_LIVES: Final = 5
"""How many containers are wanted at once, at most: as many as the worker has processors for."""
CPU_MILLIS: Final = 1000


class Kind(Enum):
    """How a container behaves: its PID 1, by a shell's script."""

    LASTING = 'echo "$$" >>"$0"; while :; do sleep 600; done'
    QUICK = 'echo "$$" >>"$0"; exit 3'
    KILLED = 'echo "$$" >>"$0"; kill -USR1 $$'
    DEAF = 'trap "" TERM; echo "$$" >>"$0"; while :; do sleep 600; done'
    BROKEN = ""
    """Names a program that does not exist."""

    @property
    def lasts(self) -> bool:
        return self in (Kind.LASTING, Kind.DEAF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A container that the server wants, once."""

    id: ContainerId
    number: int
    """Counts the lives under one id, from 1."""
    kind: Kind
    timeout_seconds: float | None = None

    def marker(self, place: Path) -> Path:
        """The file in which PID 1 notes each of its starts."""
        return place / f"{self.id}.{self.number}"

    def order(self, place: Path) -> Order:
        shell = ("/bin/sh", "-c", self.kind.value, str(self.marker(place)))
        broken = (str(place / "no-such-program"),)
        return Order(
            id=self.id,
            sandbox_id=str(self.id),
            image="chaos",
            entrypoint=broken if self.kind is Kind.BROKEN else shell,
            timeout_seconds=self.timeout_seconds,
            limits=Limits(cpu_millis=CPU_MILLIS),
        )


@dataclass(frozen=True, slots=True)
class Want:
    """One more container; or another life under an id whose last one has ended."""

    kind: Kind
    timeout_seconds: float | None
    again: bool


@dataclass(frozen=True, slots=True)
class Unwant:
    which: float
    """Between 0 and 1: where among those that are wanted."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """The server asks again for what it wants already."""

    which: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the worker does now and then: remove what bears its mark and is in no record."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """The disk has much to do: what the worker remembers cannot be written for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Restart:
    """The worker is cancelled where it stands, and another one starts on the same state."""

    reopen: bool
    """Whether the driver is closed and opened again, too."""
    leap: float
    """By how many seconds the clock is off what it was, as after a start of the host."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The worker dies at a boundary between two of its steps: the so-many-eth from here."""

    boundary: int
    reopen: bool


Step: TypeAlias = Want | Unwant | Repeat | Sweep | Pass | Stall | Restart | Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a seed decides. `waits` follows each step: how many changes to wait for."""

    steps: tuple[Step, ...]
    waits: tuple[int, ...]
    faults: tuple[Fault, ...]


def plan(seed: int) -> Plan:
    """The run that belongs to a seed."""
    draw = random.Random(f"plan/{seed}")
    steps: list[Step] = [Want(_kind(draw), None, again=False)]
    steps += [_step(draw) for _ in range(draw.randint(6, 14))]
    return Plan(
        steps=tuple(steps),
        waits=tuple(draw.choice((0, 0, 1, 1, 2, 4)) for _ in steps),
        faults=tuple(_fault(draw) for _ in range(draw.randint(1, 4))),
    )


def _kind(draw: random.Random) -> Kind:
    return draw.choices(tuple(Kind), weights=(8, 2, 1, 1, 1))[0]


def _step(draw: random.Random) -> Step:
    match draw.choices(range(8), weights=(8, 4, 2, 2, 2, 2, 1, 3))[0]:
        case 0:
            timeout = draw.choice((None, None, None, 30.0))
            return Want(_kind(draw), timeout, again=draw.random() < 0.3)
        case 1:
            return Unwant(draw.random())
        case 2:
            return Repeat(draw.random())
        case 3:
            return Sweep()
        case 4:
            return Pass(draw.choice((0.2, 3.0, 15.0, 40.0)))
        case 5:
            return Stall(draw.choice((0.02, 0.1, 0.4)))
        case 6:
            return Restart(reopen=draw.random() < 0.5, leap=draw.choice((0, 0, -600.0, 600.0)))
        case _:
            return Cut(draw.randint(1, 8), reopen=draw.random() < 0.5)


def _fault(draw: random.Random) -> Fault:
    at: Point = draw.choice(get_args(Point))
    deeds = ["raise", "raise", "crash", "delay", "hang"]
    if at.endswith(".after"):
        deeds += ["drop_reply", "drop_reply"]
    names: tuple[ErrorName, ...] = get_args(ErrorName)
    return Fault.model_validate(
        {
            "at": at,
            "do": draw.choice(deeds),
            "p": draw.choice((0.1, 0.3, 0.6, 1.0)),
            "seconds": draw.choice((0.001, 0.01, 0.03)),
            "error": draw.choice(names),
            "times": draw.choice((1, 1, 2, 3)),
        }
    )
