"""The life of a container when something goes wrong, or many things happen at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from signal import SIGKILL
from typing import Any, Final

import anyio
from anyio import to_thread

from longshore_core._errors import LongshoreError
from longshore_core._model import Attachment, ContainerSpec, Exit, Handle, Phase, UnixReach
from longshore_core.testing.bench import Bench, every, timed
from longshore_core.testing.expect import equal, expect, refused
from longshore_core.testing.law import PROGRAMS, SOCKETS, Group, Law, laws_in
from longshore_core.testing.laws.life import counting_starts, ending, once_only
from longshore_core.testing.programs import FOREVER, READY

LIFE: Final[Group[Bench]] = Group("life")

_LEVELS: Final = 1900
"""More than Python recurses to, or a process may hold open; yet a path that can be named."""


@LIFE.law("L5.4", requires=(SOCKETS,))
async def what_it_has_nested_deeply_beside_its_sockets_goes_with_it(bench: Bench) -> None:
    script = f'cd "$LONGSHORE_SOCKETS"; mkdir -p {"d/" * _LEVELS}; {{ready}}{FOREVER}'
    handle = await bench.driver.create(bench.spec("c", script))
    attachment = await bench.driver.start(handle)
    await bench.told(attachment, READY)
    await bench.driver.remove(handle)
    if isinstance(attachment.reach, UnixReach):
        path = anyio.Path(attachment.reach.path)
        expect(not await path.exists(), "its directory for sockets is left by removal")
    equal(list(await bench.driver.survey()), [], "the survey after it was removed")


@LIFE.law("L6", requires=(PROGRAMS,))
async def a_start_that_fails_says_why_and_leaves_what_was_created(bench: Bench) -> None:
    broken = {"program": replace(bench.spec("program", FOREVER), argv=("/nonexistent/program",))}
    if not bench.facts.images:
        # Engines make a directory that an image lacks.
        broken["directory"] = bench.spec("directory", FOREVER, cwd="/nonexistent/directory")
    for name, spec in broken.items():
        handle = await bench.driver.create(spec)
        before = await to_thread.run_sync(bench.view.look)
        exc = await refused(bench.driver.start(handle), f"starting without its {name}")
        expect("/nonexistent" in str(exc), f"the error does not say what there is not: {exc}")
        equal(await bench.phase(name), Phase.CREATED, "its phase after a start that failed")
        left = await bench.left_since(before)
        expect(not left, f"left by a start that failed: {', '.join(left)}")


@LIFE.law("L6.2", requires=(PROGRAMS,))
async def arguments_that_no_process_can_have_are_refused_and_typed(bench: Bench) -> None:
    for number, argv in enumerate([(), ("/bin/sh", "-c", "a\0b")]):
        spec = replace(bench.spec(f"c{number}", FOREVER), argv=argv)
        await refused(_run(bench, spec), f"running {argv!r}")


@LIFE.law("L7", seconds=120)
async def a_start_that_is_cancelled_runs_or_leaves_what_was_created(bench: Bench) -> None:
    whole = await bench.driver.create(bench.spec("whole", FOREVER))
    _, took = await timed(bench.driver.start(whole))
    await bench.driver.remove(whole)
    for number, moment in enumerate(bench.moments(bench.many(12, 100), took)):
        name = f"c{number}"
        handle = await bench.driver.create(bench.spec(name, FOREVER))
        before = await to_thread.run_sync(bench.view.look)
        attachment = None
        with anyio.move_on_after(moment):
            attachment = await bench.driver.start(handle)
        phase = await bench.phase(name)
        if attachment is not None:
            equal(phase, Phase.RUNNING, "the phase of what was started")
        elif phase is not Phase.RUNNING:
            equal(phase, Phase.CREATED, "the phase of what was not started")
            left = await bench.left_since(before)
            expect(not left, f"left by a start that was cancelled: {', '.join(left)}")
        await bench.driver.remove(handle)


@LIFE.law("L7.2", seconds=60)
async def a_create_that_is_cancelled_leaves_nothing_or_a_container(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    whole, took = await timed(bench.driver.create(bench.spec("whole", FOREVER)))
    await bench.driver.remove(whole)
    for number, moment in enumerate(bench.moments(bench.many(12, 60), took)):
        name = f"c{number}"
        handle = None
        with anyio.move_on_after(moment):
            handle = await bench.driver.create(bench.spec(name, FOREVER))
        found = await bench.found(name)
        if handle is not None:
            expect(found is not None, "the survey does not have what was created")
        if found is not None:
            equal(found.phase, Phase.CREATED, "its phase")
            await bench.driver.remove(found.handle)
        left = await bench.left_since(before)
        expect(not left, f"left by a create that was cancelled: {', '.join(left)}")


@LIFE.law("L7.3", seconds=60)
async def a_removal_that_is_cancelled_can_be_repeated(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    whole = await bench.running("whole", FOREVER)
    _, took = await timed(bench.driver.remove(whole))
    for number, moment in enumerate(bench.moments(bench.many(8, 40), took)):
        handle = await bench.running(f"c{number}", FOREVER)
        with anyio.move_on_after(moment):
            await bench.driver.remove(handle)
        await bench.driver.remove(handle)
        equal(await bench.phase(f"c{number}"), None, "its phase after the second removal")
    left = await bench.left_since(before)
    expect(not left, f"left by removals that were cancelled: {', '.join(left)}")


@LIFE.law("L8")
async def creating_one_id_many_times_at_once_makes_one(bench: Bench) -> None:
    spec = bench.spec("c", FOREVER)
    handles = await every([partial(bench.driver.create, spec)] * 8)
    expect(all(isinstance(each, Handle) for each in handles), f"not all were answered: {handles}")
    equal({str(each) for each in handles}, {str(handles[0])}, "the handles of eight creates")
    equal(len(await bench.driver.survey()), 1, "how many there are")


@LIFE.law("L8.2")
async def starting_many_times_at_once_starts_once(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", counting_starts(bench)))
    answers = await every([partial(bench.driver.start, handle)] * 8)
    expect(all(isinstance(each, Attachment) for each in answers), f"not all started: {answers}")
    equal([each for each in answers if each != answers[0]], [], "answers that differ")
    await once_only(bench, answers[0])


@LIFE.law("L8.3")
async def removing_many_times_at_once_is_one_removal(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    answers = await every([partial(bench.driver.remove, handle)] * 6)
    equal(answers, [None] * 6, "what six removals were answered")
    equal(await bench.phase("c"), None, "its phase")


@LIFE.law("L8.4")
async def start_and_remove_at_once_leave_nothing_or_say_why(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    for number in range(bench.many(6, 40)):
        handle = await bench.driver.create(bench.spec(f"c{number}", FOREVER))
        calls: list[Callable[[], Any]] = [
            partial(bench.driver.start, handle),
            partial(bench.driver.remove, handle),
        ]
        started, removed = await every(calls)
        allowed = isinstance(started, Attachment | LongshoreError)
        expect(allowed and removed is None, f"answered {started!r} and {removed!r}")
        equal(await bench.phase(f"c{number}"), None, "its phase after start and removal")
    left = await bench.left_since(before)
    expect(not left, f"left behind: {', '.join(left)}")


@LIFE.law("L10", seconds=60)
async def many_containers_live_side_by_side(bench: Bench) -> None:
    count = bench.many(12, 40)
    handles = await every([partial(bench.running, f"c{n}", FOREVER) for n in range(count)])
    expect(all(isinstance(each, Handle) for each in handles), f"not all run: {handles}")
    phases = [found.phase for found in await bench.driver.survey()]
    equal(phases, [Phase.RUNNING] * count, "the phases of all")
    await every([partial(bench.driver.signal, handle, SIGKILL) for handle in handles])
    exits = await every([partial(bench.driver.wait, handle) for handle in handles])
    equal(exits, [Exit(signal=SIGKILL)] * count, "the ends of all")
    await every([partial(bench.driver.remove, handle) for handle in handles])
    equal(len(await bench.driver.survey()), 0, "how many are left")


@LIFE.law("L11")
async def ids_that_differ_late_are_different(bench: Bench) -> None:
    """Engines, interfaces and files cut names short: at 12, 15, 28, or 63 characters."""
    for length in (12, 15, 28, 63):
        stem = "x" * max(1, length - len(bench.mark) - 1)
        one = await bench.running(f"{stem}a", FOREVER)
        two = await bench.running(f"{stem}b", FOREVER)
        await bench.driver.signal(one, SIGKILL)
        equal(await ending(bench, one), Exit(signal=SIGKILL), "the end of the first")
        await bench.driver.remove(one)
        equal(await bench.phase(f"{stem}b"), Phase.RUNNING, "the phase of the second")
        await bench.driver.remove(two)


async def _run(bench: Bench, spec: ContainerSpec) -> Attachment:
    return await bench.driver.start(await bench.driver.create(spec))


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
