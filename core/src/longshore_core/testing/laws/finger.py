"""What a driver says when it is asked how things stand."""

from __future__ import annotations

import time
from signal import SIGKILL
from typing import Final

import anyio

from longshore_core._errors import EngineUnavailable
from longshore_core._model import Fingerprint, Phase
from longshore_core.testing.bench import Bench, Engine
from longshore_core.testing.expect import Broken, equal, expect, refused
from longshore_core.testing.law import HEALTH, RECOVERS, Group, Law, laws_in
from longshore_core.testing.laws.life import ending
from longshore_core.testing.programs import FOREVER

FINGER: Final[Group[Bench]] = Group("finger")

_ANSWER_SECONDS: Final = 5.0
_FIRST_SECONDS: Final = 1.0


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


@FINGER.law("F1.2", requires=(HEALTH,))
async def the_first_fingerprint_comes_within_a_second(bench: Bench) -> None:
    first = await _first(bench)
    expect(first.healthy, f"the engine is not well: {first.reason}")
    expect(first.engine, "an engine that is well has a name and a version")
    equal(first.reason, "", "why it is not well, while it is")


@FINGER.law("F1.3", requires=(HEALTH,))
async def any_number_may_follow_the_engine(bench: Bench) -> None:
    async with bench.driver.fingerprints() as one, bench.driver.fingerprints() as two:
        equal(await anext(one), await anext(two), "the first fingerprint, told twice")
    expect((await _first(bench)).healthy, "the engine is not well, after two had followed it")


@FINGER.law("F1.4", requires=(HEALTH,), seconds=60)
async def a_fingerprint_comes_within_a_second_without_the_engine(bench: Bench) -> None:
    engine = engine_of(bench)
    await engine.stop()
    try:
        first = await _first(bench)
    finally:
        await engine.start()
    expect(not first.healthy, "an engine that is away is said to be well")
    expect(first.reason, "it does not say why the engine is not well")


@FINGER.law("F2.2", requires=(HEALTH,), seconds=60)
async def fingerprints_tell_when_the_engine_goes_and_when_it_is_back(bench: Bench) -> None:
    engine = engine_of(bench)
    async with bench.driver.fingerprints() as fingerprints:
        expect((await anext(fingerprints)).healthy, "the engine is not well to begin with")
        await engine.stop()
        try:
            with anyio.fail_after(_ANSWER_SECONDS):
                while (now := await anext(fingerprints)).healthy:
                    pass
            expect(now.reason, "it does not say why the engine is not well")
        finally:
            await engine.start()
        with anyio.fail_after(_ANSWER_SECONDS):
            while not (await anext(fingerprints)).healthy:
                pass


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


async def _first(bench: Bench) -> Fingerprint:
    with anyio.fail_after(_FIRST_SECONDS):
        async with bench.driver.fingerprints() as fingerprints:
            return await anext(fingerprints)


def engine_of(bench: Bench) -> Engine:
    if bench.settings.engine is None:
        bench.need(None, "a way to stop the driver's engine and to start it again")
        raise AssertionError
    return bench.settings.engine


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
