"""What the engine has just told, so that it need not be asked for it at once again."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import anyio

ThingT = TypeVar("ThingT")

SECONDS: Final = 1.0


class Recent(Generic[ThingT]):
    """Told once, to whoever asks next, and only for a second."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ThingT, float]] = {}

    def keep(self, name: str, thing: ThingT) -> None:
        # What nobody came for, as when its container was refused, does not stay.
        self._kept = {name: kept for name, kept in self._kept.items() if _is_recent(kept[1])}
        self._kept[name] = (thing, anyio.current_time())

    def take(self, name: str) -> ThingT | None:
        kept = self._kept.pop(name, None)
        return kept[0] if kept is not None and _is_recent(kept[1]) else None


def _is_recent(since: float) -> bool:
    return anyio.current_time() - since < SECONDS
