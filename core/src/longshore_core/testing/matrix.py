"""The table of states and events of a container's life: what `docs/state-machine.md` holds."""

from __future__ import annotations

from typing import Final

from longshore_core._errors import KernelBug
from longshore_core._machine.life import Event, Life
from longshore_core._machine.step import step
from longshore_core.testing.samples import EVENTS, LIVES, NOW, container

HEADER: Final = """\
# A container's life

Printed from `step(container, event, now) -> (container, effects)`; a test fails when it drifts.
A cell has the state that follows, and the effects that are released once it is on disk. `·` means
that the event is stale there and ignored by name; `✗` that it cannot come there, and would
quarantine the container. The sample has a timeout of 600 s that has not passed; *Failed* is a
failed removal.
"""


def render() -> str:
    """The whole page."""
    tables = [_table(life) for life in LIVES]
    return HEADER + "\n" + "\n".join(tables)


def _table(life: Life) -> str:
    meaning = (type(life).__doc__ or "").split("\n")[0]
    shown = "" if meaning.startswith(type(life).__name__) else f"{meaning}\n\n"
    rows = [f"| {name} | {_cell(life, event)} |" for name, event in EVENTS.items()]
    return (
        f"## {type(life).__name__}\n\n{shown}| event | next |\n| --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def _cell(life: Life, event: Event) -> str:
    before = container(life)
    try:
        after, effects = step(before, event, NOW)
    except KernelBug:
        return "✗"
    if after == before and not effects:
        return "·"
    names = ", ".join(type(effect).__name__ for effect in effects)
    return f"**{type(after.life).__name__}**" + (f": {names}" if names else "")
