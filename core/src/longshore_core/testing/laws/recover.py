"""What is left of containers when the worker ends, and what the next one finds."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import Final

from anyio import to_thread
from pydantic import ValidationError

from longshore_core._errors import BackendError, PluginCrash
from longshore_core._model import Exit, Handle, Phase
from longshore_core.testing.bench import HANDLE, Bench, timed
from longshore_core.testing.expect import Broken, equal, expect, refused
from longshore_core.testing.law import PROGRAMS, RECOVERS, Group, Law, laws_in
from longshore_core.testing.laws.life import counting_starts, ending, once_only
from longshore_core.testing.programs import FOREVER, exits
from longshore_core.testing.worker import Worker

_GOLDEN: Final = Path(__file__).parents[1] / "golden"

RECOVER: Final[Group[Bench]] = Group("recover")


@RECOVER.law("R1", requires=(RECOVERS,), traced=True)
async def the_next_driver_finds_what_runs_and_starts_it_no_second_time(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", counting_starts(bench)))
    attachment = await bench.driver.start(handle)
    await once_only(bench, attachment)
    await bench.reopen()
    handle = bench.stored(handle)
    found = await bench.found("c")
    equal(found and found.phase, Phase.RUNNING, "its phase after a restart")
    equal(found and found.attachment, attachment, "its attachment after a restart")
    equal(await bench.driver.start(handle), attachment, "the answer to a start after a restart")
    await once_only(bench, attachment)
    await bench.driver.signal(handle, SIGKILL)
    equal(await ending(bench, handle), Exit(signal=SIGKILL), "its end, for the next driver")


@RECOVER.law("R1.2", requires=(RECOVERS,), traced=True)
async def the_next_driver_finds_what_was_created_and_can_start_it(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    await bench.reopen()
    equal(await bench.phase("c"), Phase.CREATED, "its phase after a restart")
    equal(await bench.driver.create(bench.spec("c", FOREVER)), handle, "its handle, made again")
    await bench.driver.start(bench.stored(handle))
    equal(await bench.phase("c"), Phase.RUNNING, "its phase after a start")


@RECOVER.law("R1.3", requires=(RECOVERS, PROGRAMS), traced=True)
async def the_next_driver_knows_how_it_ended(bench: Bench) -> None:
    handle = await bench.running("c", exits(43))
    await ending(bench, handle)
    await bench.reopen()
    equal(await ending(bench, bench.stored(handle)), Exit(code=43), "its end after a restart")
    found = await bench.found("c")
    equal(found and found.exit, Exit(code=43), "its end in the survey")


@RECOVER.law("R1.4", requires=(RECOVERS,))
async def the_next_driver_removes_all_of_what_an_earlier_one_has_started(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    handle = await bench.running("c", FOREVER)
    await bench.reopen()
    await bench.driver.remove(bench.stored(handle))
    left = await bench.left_since(before)
    expect(not left, f"left by removal after a restart: {', '.join(left)}")


@RECOVER.law("R1.5", requires_not=(RECOVERS,), traced=True)
async def containers_that_do_not_outlive_their_driver_end_with_it(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    await bench.driver.create(bench.spec("created", FOREVER))
    await bench.running("running", FOREVER)
    await bench.reopen()
    equal(list(await bench.driver.survey()), [], "the survey of the next driver")
    left = await bench.left_since(before)
    expect(not left, f"left by a driver that was closed: {', '.join(left)}")


@RECOVER.law("R2", requires=(RECOVERS, PROGRAMS))
async def what_ended_while_nobody_watched_is_found_ended(bench: Bench) -> None:
    handle = await bench.running("c", "sleep 0.2; exit 44")
    await bench.reopen()
    equal(await ending(bench, bench.stored(handle)), Exit(code=44), "its end, unwatched")
    equal(await bench.phase("c"), Phase.EXITED, "its phase")
    await refused(bench.driver.start(bench.stored(handle)), "starting it again")


@RECOVER.law("R2.2", traced=True)
async def what_was_removed_stays_removed(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    await bench.driver.remove(handle)
    await bench.reopen()
    equal(await bench.found("c"), None, "what the next driver has of it")
    await bench.driver.remove(bench.stored(handle))
    await refused(bench.driver.start(bench.stored(handle)), "starting what was removed")


@RECOVER.law("R3", requires=(RECOVERS,), seconds=170)
async def a_worker_that_is_killed_at_any_moment_loses_and_doubles_nothing(bench: Bench) -> None:
    worker = Worker.of(bench)
    before = await to_thread.run_sync(bench.view.look)
    whole, took = await timed(bench.running("whole", FOREVER))
    await bench.driver.remove(whole)
    for number, moment in enumerate(bench.moments(bench.many(4, 20), took)):
        spec = bench.spec(f"c{number}", counting_starts(bench))
        async with bench.closed():
            await worker.start_and_be_killed(spec, after=moment)
        # Created or not, started or not: asked again, it is there and has started once.
        handle = await bench.driver.create(spec)
        attachment = await bench.driver.start(handle)
        await once_only(bench, attachment)
        equal(await bench.phase(f"c{number}"), Phase.RUNNING, "its phase")
        await bench.driver.remove(handle)
    left = await bench.left_since(before)
    expect(not left, f"left by workers that were killed: {', '.join(left)}")


@RECOVER.law("R3.2", requires=(RECOVERS,), seconds=60)
async def a_worker_that_is_killed_takes_no_container_with_it(bench: Bench) -> None:
    spec = bench.spec("c", counting_starts(bench))
    worker = Worker.of(bench)
    async with bench.closed():
        await worker.start_and_be_killed(spec, after=None)
    found = await bench.found("c")
    equal(found and found.phase, Phase.RUNNING, "its phase after its worker was killed")
    if found is not None and found.attachment is not None:
        await once_only(bench, found.attachment)


@RECOVER.law("R4")
async def a_survey_has_its_own_containers_and_no_others(bench: Bench) -> None:
    ours = await bench.running("ours", FOREVER)
    async with bench.another("worker-2/driver", state="other") as other:
        theirs = await other.create(bench.spec("theirs", FOREVER))
        await other.start(theirs)
        mine = [found.id for found in await bench.driver.survey()]
        equal(mine, [bench.id("ours")], "what the one worker finds")
        equal([f.id for f in await other.survey()], [bench.id("theirs")], "what the other finds")
        await bench.driver.remove(ours)
        (left,) = await other.survey()
        equal(left.phase, Phase.RUNNING, "the other's container, after ours was removed")
        await other.remove(theirs)


@RECOVER.law("R4.2")
async def an_owner_whose_name_begins_alike_is_another(bench: Bench) -> None:
    await bench.running("ours", FOREVER)
    async with bench.another("worker-1/driver-2", state="state") as other:
        equal(list(await other.survey()), [], "what an owner of nearly our name finds")
    equal(await bench.phase("ours"), Phase.RUNNING, "our container, after the other has gone")


@RECOVER.law("R5")
async def handles_of_other_releases_work_or_fail_by_name(bench: Bench) -> None:
    """Newer, older and garbled: never a crash, and never somebody else's container."""
    bystander = await bench.running("bystander", FOREVER)
    strange = [
        replace(bystander, id=bench.id("x"), schema=bystander.schema + 98, state={"a": [1, None]}),
        replace(bystander, id=bench.id("x"), schema=0),
        replace(bystander, id=bench.id("x"), state={"pid": "not a number", "x": {"y": []}}),
    ]
    for handle in strange:
        await _survives(bench, handle)
    equal(await bench.phase("bystander"), Phase.RUNNING, "the phase of another container")


@RECOVER.law("R5.2")
async def golden_handles_are_still_understood(bench: Bench) -> None:
    """Where what they name is gone, and where it runs: served truly, or refused by name."""
    directory = bench.settings.golden or _GOLDEN / bench.subject.origin.name
    files = sorted(directory.glob("*.json"))
    bench.need(files, f"golden handles of this driver in {directory}, or in --golden DIRECTORY")
    for number, file in enumerate(files):
        golden = await to_thread.run_sync(_golden, file)
        await _survives(bench, golden)
        name = f"c{number}"
        today = await bench.running(name, FOREVER)
        old = replace(golden, id=today.id)
        if await _served(bench.driver.signal(old, SIGKILL)):
            equal(await ending(bench, today), Exit(signal=SIGKILL), f"its end, by {file.name}")
        else:
            equal(await bench.phase(name), Phase.RUNNING, f"its phase, {file.name} refused")
        if await _served(bench.driver.remove(old)):
            equal(await bench.phase(name), None, f"its phase after removal by {file.name}")


@RECOVER.law("R6", traced=True)
async def a_handle_from_storage_serves_every_verb(bench: Bench) -> None:
    handle = bench.stored(await bench.driver.create(bench.spec("c", FOREVER)))
    await bench.driver.start(handle)
    await bench.driver.signal(bench.stored(handle), SIGKILL)
    equal(await ending(bench, bench.stored(handle)), Exit(signal=SIGKILL), "its end")
    await bench.driver.remove(bench.stored(handle))
    equal(await bench.phase("c"), None, "its phase after removal")


def golden_of(handle: Handle, driver: str, release: str) -> str:
    """What to keep of a handle for the releases to come: the text of a golden file."""
    kept = {"driver": driver, "release": release, "handle": json.loads(HANDLE.dump_json(handle))}
    return json.dumps(kept, indent=2, sort_keys=True) + "\n"


def _golden(file: Path) -> Handle:
    try:
        return HANDLE.validate_python(json.loads(file.read_text())["handle"])
    except (ValidationError, KeyError, ValueError) as exc:
        raise Broken(f"{file.name} is no golden handle: {exc}") from exc


async def _survives(bench: Bench, handle: Handle) -> None:
    driver = bench.driver
    await _served(driver.start(handle))
    await _served(driver.signal(handle, SIGKILL))
    await _served(driver.remove(handle))


async def _served(call: Awaitable[object]) -> bool:
    """Whether a call with a strange handle was answered, and not refused by name."""
    try:
        await call
    except PluginCrash as exc:
        raise Broken(f"a strange handle: {exc}") from exc
    except BackendError:
        return False  # typed: it says what it does not understand
    return True


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
