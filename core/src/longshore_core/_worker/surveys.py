"""Asking a driver what there is. It may take its time, but not for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio
import structlog

from longshore_core._errors import EngineUnavailable, LongshoreError
from longshore_core._model import Found

Survey: TypeAlias = Callable[[], Awaitable[Sequence[Found]]]

SURVEY_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 2.0

log = structlog.stdlib.get_logger("longshore_core.containers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a survey may take, and the pause before the next when there was no answer."""

    seconds: float = SURVEY_SECONDS
    pause: float = RETRY_SECONDS


async def wait_for_survey(survey: Survey, patience: Patience) -> Sequence[Found]:
    """What there is, as soon as the engine can say: until it does, nothing is known to be dead.

    Raises what else goes wrong: a driver that is broken will not answer later either.
    """
    while True:
        try:
            return await _ask(survey, patience)
        except LongshoreError as exc:
            if not exc.retryable:
                raise
            log.warning("The engine cannot be asked; waiting for it", why=str(exc))
            await anyio.sleep(patience.pause)


async def try_survey(survey: Survey, patience: Patience) -> Sequence[Found]:
    """What there is; nothing, when the driver cannot say. For those who will ask again."""
    try:
        return await _ask(survey, patience)
    except LongshoreError as exc:
        log.warning("Cannot look for containers that nobody wants", why=str(exc))
        return ()


async def _ask(survey: Survey, patience: Patience) -> Sequence[Found]:
    with anyio.move_on_after(patience.seconds):
        return await survey()
    raise EngineUnavailable(f"no survey within {patience.seconds:g} seconds")
