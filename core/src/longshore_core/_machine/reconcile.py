"""What a survey means for what the worker wants: adopt, sweep, or go on without.

*Unknown is not dead*: a driver that cannot answer raises, and then nothing is reconciled at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from longshore_core._machine.life import Container, Surveyed, Terminated
from longshore_core._model import ContainerId, Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    events: Mapping[ContainerId, Surveyed]
    """For each container that the worker has a record of: what has become of it."""
    sweep: tuple[Found, ...]
    """What bears the worker's mark and is wanted by nobody: to be removed."""


def reconcile(desired: Mapping[ContainerId, Container], survey: Sequence[Found]) -> Reconciled:
    """Compare records with a survey of the driver that holds them.

    Promises: each record gets exactly one event, and no live one is swept. Only for a survey that
    began when nothing was being created: it says nothing about what came after.
    """
    found = {item.id: item for item in survey}
    events = {id_: Surveyed(found=found.get(id_)) for id_ in desired}
    sweep = tuple(
        item
        for item in found.values()
        if item.id not in desired or isinstance(desired[item.id].life, Terminated)
    )
    return Reconciled(events=events, sweep=sweep)
