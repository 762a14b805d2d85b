"""Saying what was expected. Unlike `assert`, it explains itself without pytest, and under `-O`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from longshore_core._errors import BackendError, LongshoreError


class Broken(AssertionError):
    """A promise was not kept. The text says which, what was expected, and what there was."""


def expect(condition: object, message: str) -> None:
    """Raise Broken with the message unless the condition holds."""
    if not condition:
        raise Broken(message)


def equal(got: object, wanted: object, what: str) -> None:
    """Raise Broken unless both are equal."""
    if got != wanted:
        raise Broken(f"{what}: expected {_short(wanted)}, found {_short(got)}")


async def refused(
    attempt: Awaitable[object], what: str, kind: type[LongshoreError] = BackendError
) -> LongshoreError:
    """Expect an error of the kind; the answer is the error."""
    try:
        answer = await attempt
    except kind as exc:
        return exc
    except LongshoreError as exc:
        raise Broken(
            f"{what}: expected {kind.__name__}, found {type(exc).__name__}: {exc}"
        ) from exc
    raise Broken(f"{what}: expected {kind.__name__}, was answered {_short(answer)}")


async def eventually(
    holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 10.0
) -> None:
    """Ask until the answer is yes. Raises Broken when it stays no."""
    with anyio.move_on_after(seconds):
        while not await holds():  # noqa: ASYNC110 -- likewise
            await anyio.sleep(0.01)
        return
    raise Broken(f"{what}: not within {seconds:g} s")


async def soon(holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait for something that nothing tells of. Raises Broken when it does not come about."""
    with anyio.move_on_after(seconds):
        while not holds():  # noqa: ASYNC110 -- there is nothing to wait on but time
            await anyio.sleep(0.005)
        return
    raise Broken(f"{what}: not within {seconds:g} s")


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"
