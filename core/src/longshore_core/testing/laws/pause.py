"""Stopping a container in its tracks, where the driver can, and letting it go on."""

from __future__ import annotations

from signal import SIGKILL
from typing import Final

import anyio
from anyio import to_thread

from longshore_core._model import Exit, Phase, UnixReach
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, expect, refused, soon
from longshore_core.testing.law import (
    PAUSE,
    PROGRAMS,
    RECOVERS,
    SOCKETS,
    Group,
    Law,
    laws_in,
)
from longshore_core.testing.laws.life import ending
from longshore_core.testing.programs import FOREVER

PAUSES: Final[Group[Bench]] = Group("pause", requires=(PAUSE,))

_NAP: Final = "sleep 0.3; exit 44"
_LONGER_SECONDS: Final = 0.9
_COUNTER: Final = (
    'i=0; while :; do i=$((i+1)); echo $i > "$LONGSHORE_SOCKETS/part"; '
    'mv "$LONGSHORE_SOCKETS/part" "$LONGSHORE_SOCKETS/count"; sleep 0.02; done'
)


@PAUSES.law("U1", requires=(PROGRAMS,))
async def what_is_paused_does_not_go_on_until_it_is_resumed(bench: Bench) -> None:
    handle = await bench.running("c", _NAP)
    await bench.driver.pause(handle)
    await bench.clock.pass_time(_LONGER_SECONDS)
    equal(await bench.phase("c"), Phase.RUNNING, "its phase long after it would have ended")
    await bench.driver.resume(handle)
    equal(await ending(bench, handle), Exit(code=44), "its end, after it was resumed")


@PAUSES.law("U1.2", requires=(SOCKETS,))
async def its_memory_is_what_it_was(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", _COUNTER))
    reach = (await bench.driver.start(handle)).reach
    counter = anyio.Path(reach.path if isinstance(reach, UnixReach) else "", "count")
    await bench.told(await bench.driver.start(handle), "count")
    await bench.driver.pause(handle)
    paused = int(await counter.read_text())
    await bench.clock.pass_time(_LONGER_SECONDS / 3)
    equal(int(await counter.read_text()), paused, "how far it has counted while it was paused")
    await bench.driver.resume(handle)

    def counts_on() -> bool:
        with open(str(counter), encoding="utf-8") as file:
            return int(file.read() or "0") > paused

    await soon(counts_on, "it counts on from where it was")


@PAUSES.law("U1.3")
async def its_neighbour_goes_on(bench: Bench) -> None:
    one, two = await bench.running("one", FOREVER), await bench.running("two", _NAP)
    await bench.driver.pause(one)
    await bench.clock.pass_time(_LONGER_SECONDS)
    if bench.has_programs:
        equal(await ending(bench, two), Exit(code=44), "the end of its neighbour")
    equal(await bench.phase("one"), Phase.RUNNING, "the phase of the one that is paused")
    await bench.driver.resume(one)


@PAUSES.law("U2", traced=True)
async def pausing_and_resuming_again_change_nothing(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    await bench.driver.resume(handle)
    for _ in range(3):
        await bench.driver.pause(handle)
    equal(await bench.phase("c"), Phase.RUNNING, "its phase while it is paused")
    for _ in range(3):
        await bench.driver.resume(handle)
    await bench.driver.signal(handle, SIGKILL)
    equal(await ending(bench, handle), Exit(signal=SIGKILL), "its end")


@PAUSES.law("U3")
async def what_is_paused_is_removed_like_any_other(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    handle = await bench.running("c", FOREVER)
    await bench.driver.pause(handle)
    await bench.driver.remove(handle)
    equal(await bench.phase("c"), None, "its phase after it was removed")
    left = await bench.left_since(before)
    expect(not left, f"left by removal of what was paused: {', '.join(left)}")


@PAUSES.law("U4", traced=True)
async def what_does_not_run_is_not_paused(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    await refused(bench.driver.pause(handle), "pausing what was not started")
    equal(await bench.phase("c"), Phase.CREATED, "its phase after that")
    await bench.driver.start(handle)
    await bench.driver.signal(handle, SIGKILL)
    await ending(bench, handle)
    await refused(bench.driver.pause(handle), "pausing what has ended")


@PAUSES.law("U5", requires=(RECOVERS, PROGRAMS))
async def the_next_driver_finds_it_paused_and_can_resume_it(bench: Bench) -> None:
    handle = await bench.running("c", _NAP)
    await bench.driver.pause(handle)
    await bench.reopen()
    await bench.clock.pass_time(_LONGER_SECONDS)
    equal(await bench.phase("c"), Phase.RUNNING, "its phase after a restart")
    await bench.driver.resume(bench.stored(handle))
    equal(await ending(bench, bench.stored(handle)), Exit(code=44), "its end, resumed")


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
