"""One sample of each state and event of a container's life, for tables and properties."""

from __future__ import annotations

from typing import Final

from longshore_core._machine.life import (
    Admitted,
    Admitting,
    Container,
    Created,
    Creating,
    Delivered,
    Ending,
    Event,
    Exited,
    Failed,
    Life,
    Order,
    Released,
    Releasing,
    Removed,
    Removing,
    Running,
    Started,
    Starting,
    Stopping,
    Surveyed,
    Terminated,
    TerminationReason,
    Unhealthy,
    Unwanted,
    Wanted,
    Woken,
)
from longshore_core._model import Attachment, ContainerId, Exit, Found, Handle, Phase

NOW: Final = 1_000_000.0

_ID: Final = ContainerId("c1")
_HANDLE: Final = Handle(id=_ID)
_ATTACHMENT: Final = Attachment()
_WHY: Final = Ending(reason=TerminationReason.FUNCTION_CANCELLED, message="asked")
ORDER: Final = Order(id=_ID, sandbox_id="s1", timeout_seconds=600)

LIVES: Final[tuple[Life, ...]] = (
    Creating(),
    Starting(handle=_HANDLE),
    Admitting(handle=_HANDLE, attachment=_ATTACHMENT),
    Releasing(handle=_HANDLE, attachment=_ATTACHMENT),
    Running(handle=_HANDLE, attachment=_ATTACHMENT),
    Stopping(handle=_HANDLE, attachment=_ATTACHMENT, why=_WHY, kill_at=NOW + 10),
    Removing(handle=_HANDLE, why=_WHY, attempts=1),
    Terminated(why=_WHY),
)

EVENTS: Final[dict[str, Event]] = {
    "Wanted": Wanted(order=ORDER),
    "Unwanted": Unwanted(),
    "Delivered": Delivered(),
    "Created": Created(handle=_HANDLE),
    "Started": Started(attachment=_ATTACHMENT),
    "Admitted": Admitted(),
    "Released": Released(),
    "Exited": Exited(exit=Exit(code=1)),
    "Unhealthy": Unhealthy(message="no answer"),
    "Failed": Failed(operation="remove", why=_WHY),
    "Removed": Removed(),
    "Woken": Woken(),
    "Surveyed(nothing)": Surveyed(found=None),
    "Surveyed(created)": Surveyed(found=Found(id=_ID, handle=_HANDLE, phase=Phase.CREATED)),
    "Surveyed(running)": Surveyed(
        found=Found(id=_ID, handle=_HANDLE, phase=Phase.RUNNING, attachment=_ATTACHMENT)
    ),
    "Surveyed(exited)": Surveyed(
        found=Found(id=_ID, handle=_HANDLE, phase=Phase.EXITED, exit=Exit(code=0))
    ),
}


def container(life: Life) -> Container:
    """A container in the given state."""
    return Container(order=ORDER, life=life, incarnation=1, token="", claimed_at=NOW)
