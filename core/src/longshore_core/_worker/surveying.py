"""Asking a driver what there is: once at start for as long as it takes, later now and then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import anyio
import structlog

from longshore_core._errors import LongshoreError
from longshore_core._model import Found

RETRY_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 60.0

Survey: TypeAlias = Callable[[], Awaitable[Sequence[Found]]]

log = structlog.stdlib.get_logger("longshore_core.containers")


async def wait_survey(survey: Survey) -> Sequence[Found]:
    """The answer, waited for: until there is one, nothing is known to be dead.

    Raises what will not pass by itself, as a crash of the driver's.
    """
    while True:
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                return await survey()
        except (LongshoreError, TimeoutError) as exc:
            if isinstance(exc, LongshoreError) and not exc.retryable:
                raise
            why = str(exc) or "no answer in time"
            log.warning("The engine cannot be asked; waiting for it", why=why)
            await anyio.sleep(RETRY_SECONDS)


async def try_survey(survey: Survey) -> Sequence[Found]:
    """The answer; nothing from a driver that cannot be asked, or breaks: there is a next time."""
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            return await survey()
    except (LongshoreError, TimeoutError) as exc:
        log.warning("Cannot look for leftovers", why=str(exc) or "no answer in time")
        return ()
