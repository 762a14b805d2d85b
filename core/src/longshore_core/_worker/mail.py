"""What can be left in the keeper's mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from longshore_core._machine.life import Ending, Event, Order, Unwanted, Wanted
from longshore_core._machine.reports import Report
from longshore_core._model import ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Whose effect it is: the container, its incarnation, and the effect's own number."""

    container: ContainerId
    incarnation: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Something that the server, or the operator, wants of one container."""

    container: ContainerId
    event: Wanted | Unwanted
    begins: bool = True
    """Whether a life may begin with it; else it only changes what lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A container that was asked for and cannot be made."""

    order: Order
    why: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an effect."""

    ticket: Ticket
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Reports that the server has taken."""

    numbers: frozenset[int]


Message: TypeAlias = Wish | Refusal | Outcome | Taken | Report
