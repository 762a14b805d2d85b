"""The other side of every ability: undeclared, it is refused, and nothing is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

import anyio
from anyio import to_thread

from longshore_core._errors import UnsupportedCapability
from longshore_core._model import Handle, Phase
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, expect, refused
from longshore_core.testing.host import Seen, leaks
from longshore_core.testing.law import (
    EXEC,
    HEALTH,
    IMAGE_STORE,
    LOGS,
    PAUSE,
    USAGE,
    Capability,
    Group,
    Law,
    laws_in,
)
from longshore_core.testing.programs import FOREVER

_SETTLE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1
_Use: TypeAlias = Callable[[AdaptedDriver, Handle], Awaitable[Any]]


async def _settled(bench: Bench) -> Seen:
    """The host once the container's program has become what it is to be: a shell that has still
    to run it would look like something new."""
    before = await to_thread.run_sync(bench.view.look)
    with anyio.move_on_after(_SETTLE_SECONDS):
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            now = await to_thread.run_sync(bench.view.look)
            if not leaks(before, now):
                break
            before = now
    return before


def _refusal(id_: str, group: str, ability: Capability, *uses: _Use) -> Law[Bench]:
    async def check(bench: Bench) -> None:
        handle = await bench.running("c", FOREVER)
        before = await _settled(bench)
        for use in uses:
            await refused(use(bench.driver, handle), ability.name, UnsupportedCapability)
        equal(await bench.phase("c"), Phase.RUNNING, "the phase of the container after that")
        left = await bench.left_since(before)
        expect(not left, f"left by what was refused: {', '.join(left)}")

    name = ability.name.replace(" ", "_")
    check.__name__ = f"{name}_that_is_not_declared_is_refused_and_leaves_nothing"
    laws: Group[Bench] = Group(group)
    return laws.law(id_, requires_not=(ability,))(check)


async def _entered(opening: AbstractAsyncContextManager[Any]) -> None:
    async with opening:
        pass


IMAGES: Final = _refusal(
    "IM.not",
    "images",
    IMAGE_STORE,
    lambda driver, _: driver.ensure("example/image:1", lambda _: None),
)
FINGERPRINTS: Final = _refusal(
    "F.not", "finger", HEALTH, lambda driver, _: _entered(driver.fingerprints())
)
PAUSES: Final = _refusal(
    "U.not",
    "pause",
    PAUSE,
    lambda driver, handle: driver.pause(handle),
    lambda driver, handle: driver.resume(handle),
)
METERS: Final = _refusal("M5.not", "limits", USAGE, lambda driver, handle: driver.usage(handle))
RECORDS: Final = _refusal(
    "LG.not", "logs", LOGS, lambda driver, handle: _entered(driver.logs(handle))
)
PROCESSES: Final = _refusal(
    "E.not",
    "exec",
    EXEC,
    lambda driver, handle: _entered(driver.run(handle, ["/bin/sh", "-c", "exit 0"], env={})),
)

LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
