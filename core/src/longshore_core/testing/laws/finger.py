"""What a driver says when it is asked how things stand."""

from __future__ import annotations

import time
from signal import SIGKILL
from typing import Final

import anyio

from longshore_core._errors import EngineUnavailable
from longshore_core._model import Phase
from longshore_core.testing.bench import Bench, Engine
from longshore_core.testing.expect import Broken, equal, expect, refused
from longshore_core.testing.law import RECOVERS, Group, Law, laws_in
from longshore_core.testing.laws.life import ending
from longshore_core.testing.programs import FOREVER

FINGER: Final[Group[Bench]] = Group("finger")

_ANSWER_SECONDS: Final = 5.0


@FINGER.law("F1")
async def the_first_survey_answers_within_a_second(bench: Bench) -> None:
    began = time.monotonic()
    equal(list(await bench.driver.survey()), [], "the survey of a driver that has made nothing")
    took = time.monotonic() - began
    expect(took < 1.0, f"the first survey took {took:.2f} s")


@FINGER.law("F2", seconds=60)
async def when_its_engine_comes_back_it_answers_without_a_restart(bench: Bench) -> None:
    engine = engine_of(bench)
    await bench.running("c", FOREVER)
    await engine.stop()
    try:
        with anyio.fail_after(_ANSWER_SECONDS):
            await refused(bench.driver.survey(), "a survey without the engine", EngineUnavailable)
    finally:
        await engine.start()
    with anyio.move_on_after(_ANSWER_SECONDS):
        while True:
            try:
                await bench.driver.survey()
            except EngineUnavailable:
                await anyio.sleep(0.05)
            else:
                return
    raise Broken(f"no survey within {_ANSWER_SECONDS:g} s of the engine's return")


@FINGER.law("F3", traced=True)
async def a_survey_tells_of_every_phase(bench: Bench) -> None:
    await bench.driver.create(bench.spec("created", FOREVER))
    await bench.running("running", FOREVER)
    ended = await bench.running("ended", FOREVER)
    await bench.driver.signal(ended, SIGKILL)
    await ending(bench, ended)
    found = {each.id: each for each in await bench.driver.survey()}
    wanted = {
        bench.id("created"): Phase.CREATED,
        bench.id("running"): Phase.RUNNING,
        bench.id("ended"): Phase.EXITED,
    }
    equal({id_: each.phase for id_, each in found.items()}, wanted, "phases in the survey")
    for each in found.values():
        is_running, has_ended = each.phase is Phase.RUNNING, each.phase is Phase.EXITED
        equal(each.attachment is not None, is_running, f"an attachment while {each.phase}")
        equal(each.exit is not None, has_ended, f"an end while {each.phase}")
        equal(each.handle.id, each.id, "the id in the handle")


@FINGER.law("F4", seconds=60)
async def a_survey_of_many_takes_less_than_a_second(bench: Bench) -> None:
    count = bench.many(40, 200)
    for number in range(count):
        await bench.driver.create(bench.spec(f"c{number}", FOREVER))
    began = time.monotonic()
    found = await bench.driver.survey()
    took = time.monotonic() - began
    equal(len(found), count, "how many the survey has")
    bench.record("survey_seconds", took)
    expect(took < 1.0, f"a survey of {count} took {took:.2f} s")


@FINGER.law("F5")
async def surveys_change_nothing(bench: Bench) -> None:
    await bench.running("c", FOREVER)
    first = await bench.driver.survey()
    for _ in range(5):
        equal(list(await bench.driver.survey()), list(first), "the survey, asked for again")


@FINGER.law("R2.3", requires=(RECOVERS,))
async def an_engine_that_is_away_kills_nothing(bench: Bench) -> None:
    engine = engine_of(bench)
    handle = await bench.running("c", FOREVER)
    await engine.stop()
    try:
        await refused(bench.driver.survey(), "a survey without the engine", EngineUnavailable)
    finally:
        await engine.start()
    await bench.reopen()
    equal(await bench.phase("c"), Phase.RUNNING, "its phase when the engine is back")
    await bench.driver.remove(handle)


def engine_of(bench: Bench) -> Engine:
    if bench.settings.engine is None:
        bench.need(None, "a way to stop the driver's engine and to start it again")
        raise AssertionError
    return bench.settings.engine


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
