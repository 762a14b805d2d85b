"""The life of one container: created, started, ended, removed."""

from __future__ import annotations

from functools import partial
from signal import SIGKILL, SIGTERM, SIGUSR1
from typing import Any, Final

import anyio
from anyio import to_thread

from longshore_core._errors import BackendError, LongshoreError
from longshore_core._model import Attachment, Exit, Handle, Phase, UnixReach
from longshore_core.testing.bench import Bench, every
from longshore_core.testing.clock import VirtualClock
from longshore_core.testing.expect import equal, expect, refused
from longshore_core.testing.law import IMAGES, PROGRAMS, SOCKETS, Group, Law, laws_in
from longshore_core.testing.programs import (
    FOREVER,
    IGNORES_TERM,
    checks_env,
    exits,
    heeds_term,
    kills_itself,
)

LIFE: Final[Group[Bench]] = Group("life")

_END_SECONDS: Final = 10.0


# Creating and starting.


@LIFE.law("L1", requires=(PROGRAMS,), traced=True)
async def an_exit_code_is_reported_as_it_is(bench: Bench) -> None:
    for code in (0, 1, 43, 137, 255):
        handle = await bench.running(f"c{code}", exits(code))
        equal(await ending(bench, handle), Exit(code=code), f"the end of `exit {code}`")
        await bench.driver.remove(handle)


@LIFE.law("L1.2", traced=True)
async def a_signal_that_ends_it_is_told_from_a_code(bench: Bench) -> None:
    # In a namespace of its own, PID 1 heeds no other signal that it has no handler for.
    for number in (SIGKILL,) if bench.facts.images else (SIGTERM, SIGKILL, SIGUSR1):
        handle = await bench.running(f"c{number}", FOREVER)
        await bench.driver.signal(handle, number)
        equal(await ending(bench, handle), Exit(signal=number), f"the end by {number.name}")
        await bench.driver.remove(handle)


@LIFE.law("L1.3", requires=(PROGRAMS,), requires_not=(IMAGES,), traced=True)
async def a_signal_that_it_sends_itself_is_reported(bench: Bench) -> None:
    handle = await bench.running("c", kills_itself("KILL"))
    equal(await ending(bench, handle), Exit(signal=SIGKILL), "its end")


@LIFE.law("L1.4", traced=True)
async def what_is_created_does_not_run_before_it_is_started(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", exits(0)))
    equal(await bench.phase("c"), Phase.CREATED, "the phase of what was created")
    await bench.clock.pass_time(0.05)
    equal(await bench.phase("c"), Phase.CREATED, "its phase a little later")
    await bench.driver.remove(handle)


@LIFE.law("L1.5", traced=True)
async def what_runs_is_found_with_the_attachment_that_start_answered(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    attachment = await bench.driver.start(handle)
    found = await bench.found("c")
    expect(found is not None, "the survey does not have a container that runs")
    equal(found and found.phase, Phase.RUNNING, "its phase")
    equal(found and found.attachment, attachment, "its attachment in the survey")
    equal(found and found.handle, handle, "its handle in the survey")


@LIFE.law("L1.6", traced=True)
async def what_has_ended_is_found_with_its_end(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    await bench.driver.signal(handle, SIGKILL)
    await ending(bench, handle)
    found = await bench.found("c")
    equal(found and found.phase, Phase.EXITED, "its phase in the survey")
    equal(found and found.exit, Exit(signal=SIGKILL), "its end in the survey")
    equal(found and found.attachment, None, "the attachment of what has ended")


@LIFE.law("L1.7", traced=True)
async def starting_again_answers_the_same_and_starts_nothing(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", counting_starts(bench)))
    first = await bench.driver.start(handle)
    equal(await bench.driver.start(handle), first, "the answer to the second start")
    await once_only(bench, first)


@LIFE.law("L1.8", requires=(PROGRAMS,), traced=True)
async def the_environment_of_the_spec_reaches_it(bench: Bench) -> None:
    script = checks_env("COLOUR", "deep green")
    handle = await bench.running("c", script, env={"COLOUR": "deep green"})
    equal(await ending(bench, handle), Exit(code=0), "the end of a program that checks COLOUR")


@LIFE.law("L1.9", requires=(SOCKETS,))
async def its_directory_for_sockets_is_shared_with_the_worker_alone(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", f"{{ready}}{FOREVER}"))
    attachment = await bench.driver.start(handle)
    expect(isinstance(attachment.reach, UnixReach), "a start with sockets answers with UnixReach")
    await bench.told(attachment, "ready")
    if isinstance(attachment.reach, UnixReach):
        status = await anyio.Path(attachment.reach.path).stat()
        equal(status.st_mode & 0o007, 0, "what others may do in it")


@LIFE.law("L1.10", requires=(SOCKETS,))
async def it_has_no_directory_for_sockets_unasked(bench: Bench) -> None:
    script = checks_env("LONGSHORE_SOCKETS", "")
    handle = await bench.driver.create(bench.spec("c", script, sockets=False))
    equal((await bench.driver.start(handle)).reach, None, "the reach of what asked for none")
    equal(await ending(bench, handle), Exit(code=0), "the end of a program that wants none")


# Waiting.


@LIFE.law("L2")
async def any_number_may_wait_and_all_hear_the_same(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    exits_ = list[Exit]()

    async def wait() -> None:
        exits_.append(await bench.driver.wait(handle))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await bench.driver.signal(handle, SIGKILL)
    equal(exits_, [Exit(signal=SIGKILL)] * 10, "what ten who waited were told")


@LIFE.law("L2.2", traced=True)
async def waiting_after_the_end_answers_at_once(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    await bench.driver.signal(handle, SIGKILL)
    first = await ending(bench, handle)
    for _ in range(3):
        equal(await ending(bench, handle), first, "the end, asked for again")


@LIFE.law("L2.3")
async def a_waiter_that_is_cancelled_disturbs_no_other(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    exits_ = list[Exit]()
    scopes = [anyio.CancelScope() for _ in range(5)]
    gone = [anyio.Event() for _ in scopes]

    async def wait(number: int) -> None:
        with scopes[number]:
            exits_.append(await bench.driver.wait(handle))
        gone[number].set()

    async with anyio.create_task_group() as tasks:
        for number in range(len(scopes)):
            tasks.start_soon(wait, number)
        await anyio.wait_all_tasks_blocked()
        for number in (0, 3):
            scopes[number].cancel()
            await gone[number].wait()
        equal(await bench.phase("c"), Phase.RUNNING, "its phase after two waiters were cancelled")
        await bench.driver.signal(handle, SIGKILL)
    equal(exits_, [Exit(signal=SIGKILL)] * 3, "what the other three were told")


@LIFE.law("L2.4")
async def who_waits_is_released_when_it_is_removed(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    with anyio.fail_after(_END_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_swallow, partial(bench.driver.wait, handle))
            await anyio.wait_all_tasks_blocked()
            await bench.driver.remove(handle)


# Signals.


@LIFE.law("L3", requires=(PROGRAMS,), traced=True)
async def a_program_may_end_in_order_when_it_is_told_to(bench: Bench) -> None:
    handle = await bench.running("c", heeds_term(7))
    await bench.driver.signal(handle, SIGTERM)
    equal(await ending(bench, handle), Exit(code=7), "the end of one that heeds SIGTERM")


@LIFE.law("L3.2", requires=(PROGRAMS,), traced=True)
async def a_program_that_ignores_a_signal_lives_until_it_is_removed(bench: Bench) -> None:
    handle = await bench.running("c", IGNORES_TERM)
    await bench.driver.signal(handle, SIGTERM)
    await bench.clock.pass_time(0.2)
    equal(await bench.phase("c"), Phase.RUNNING, "its phase after SIGTERM")
    await bench.driver.remove(handle)
    equal(await bench.phase("c"), None, "its phase after it was removed")


@LIFE.law("L3.3", traced=True)
async def a_signal_to_what_does_not_run_is_swallowed(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    await bench.driver.signal(handle, SIGTERM)
    equal(await bench.phase("c"), Phase.CREATED, "the phase of what was signalled before it ran")
    await bench.driver.start(handle)
    await bench.driver.signal(handle, SIGKILL)
    await ending(bench, handle)
    await bench.driver.signal(handle, SIGTERM)
    equal(await ending(bench, handle), Exit(signal=SIGKILL), "its end after a later signal")
    await bench.driver.remove(handle)
    await bench.driver.signal(handle, SIGKILL)


# Removing.


@LIFE.law("L4", traced=True)
async def removal_works_from_every_phase_and_any_number_of_times(bench: Bench) -> None:
    created = await bench.driver.create(bench.spec("created", FOREVER))
    running = await bench.running("running", FOREVER)
    ended = await bench.running("ended", FOREVER)
    await bench.driver.signal(ended, SIGKILL)
    await ending(bench, ended)
    for handle in (created, running, ended):
        for _ in range(3):
            await bench.driver.remove(handle)
    equal(list(await bench.driver.survey()), [], "the survey after all were removed")


@LIFE.law("L4.2", traced=True)
async def removing_what_never_was_is_no_error(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    await bench.driver.remove(handle)
    await bench.driver.remove(Handle(id=bench.id("never"), schema=handle.schema))


@LIFE.law("L4.3", traced=True)
async def removing_one_does_not_touch_its_neighbour(bench: Bench) -> None:
    one, two = await bench.running("one", FOREVER), await bench.running("two", FOREVER)
    await bench.driver.remove(one)
    equal(await bench.phase("one"), None, "the phase of the one that was removed")
    equal(await bench.phase("two"), Phase.RUNNING, "the phase of its neighbour")
    await bench.driver.signal(two, SIGKILL)
    equal(await ending(bench, two), Exit(signal=SIGKILL), "the end of its neighbour")


@LIFE.law("L5")
async def removal_leaves_nothing_on_the_host_when_it_answers(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    for name in ("one", "two"):
        handle = await bench.running(name, f"{{ready}}{FOREVER}")
        await bench.driver.remove(handle)
    left = await bench.left_since(before)
    expect(not left, f"left by removal: {', '.join(left)}")


@LIFE.law("L5.2", requires=(SOCKETS,))
async def removal_ends_whatever_it_has_started(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    # In another session, orphaned, deaf, and with another environment.
    script = (
        "setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & "
        "(setsid env -i LONGSHORE_LAW=$LONGSHORE_LAW sleep 1000 &) ; "
        f"{{ready}}{FOREVER}"
    )
    handle = await bench.running("c", script)
    await bench.driver.remove(handle)
    left = await bench.left_since(before)
    expect(not left, f"left by removal: {', '.join(left)}")


@LIFE.law("L5.3", requires=(SOCKETS,))
async def the_end_of_pid_1_is_the_end_of_all_that_it_has_started(bench: Bench) -> None:
    before = await to_thread.run_sync(bench.view.look)
    handle = await bench.running("c", "setsid sleep 1000 & {ready}exit 5")
    equal(await ending(bench, handle), Exit(code=5), "the end of PID 1")
    left = await bench.left_since(before)
    left = tuple(each for each in left if each.startswith("process"))
    expect(not left, f"still running after wait has answered: {', '.join(left)}")


@LIFE.law("L9.2", traced=True)
async def what_has_ended_does_not_start_again(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    await bench.driver.signal(handle, SIGKILL)
    await ending(bench, handle)
    await refused(bench.driver.start(handle), "starting what has ended")
    equal(await ending(bench, handle), Exit(signal=SIGKILL), "its end after that")


@LIFE.law("L9.3", traced=True)
async def an_id_may_be_used_again_once_it_was_removed(bench: Bench) -> None:
    for _ in range(2):
        handle = await bench.running("c", FOREVER)
        await bench.driver.signal(handle, SIGKILL)
        equal(await ending(bench, handle), Exit(signal=SIGKILL), "its end")
        await bench.driver.remove(handle)
        equal(await bench.phase("c"), None, "its phase after it was removed")


@LIFE.law("L9", traced=True)
async def every_verb_has_its_documented_result_in_every_phase(bench: Bench) -> None:
    """The table: what is refused is a BackendError, and everything else works."""
    driver = bench.driver
    for phase in (None, *Phase):
        for verb in ("create", "start", "signal", "remove", "survey"):
            name = f"{phase or 'removed'}-{verb}"
            handle = await _in_phase(bench, name, phase)
            what = f"{verb} while {phase or 'removed'}"
            match verb:
                case "create":
                    again = await driver.create(bench.spec(name, FOREVER))
                    equal(again, handle, what)
                case "start" if phase in (None, Phase.EXITED):
                    await refused(driver.start(handle), what)
                case "start":
                    await driver.start(handle)
                    equal(await bench.phase(name), Phase.RUNNING, what)
                case "signal":
                    await driver.signal(handle, SIGKILL)
                case "remove":
                    await driver.remove(handle)
                    equal(await bench.phase(name), None, what)
                case _:
                    equal(await bench.phase(name), phase, what)
            await driver.remove(handle)


@LIFE.law("L9.4")
async def waiting_for_what_does_not_run_never_makes_up_an_end(bench: Bench) -> None:
    """Refused, or no answer: but no end of what has not begun."""
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    answer: Exit | LongshoreError | None = None
    with anyio.move_on_after(0.2):
        try:
            answer = await bench.driver.wait(handle)
        except BackendError as exc:
            answer = exc
    expect(not isinstance(answer, Exit), f"wait answered {answer} for what was never started")
    equal(await bench.phase("c"), Phase.CREATED, "its phase after that")


# What the laws here and elsewhere share.


async def ending(bench: Bench, handle: Handle) -> Exit:
    """How it ended; it is about to."""
    ends = list[Exit]()
    with anyio.fail_after(_END_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_let_time_pass, bench)
            ends.append(await bench.driver.wait(handle))
            tasks.cancel_scope.cancel()
    return ends[0]


async def _let_time_pass(bench: Bench) -> None:
    # A model's time stands still, and what it waits for would never come.
    while isinstance(bench.clock, VirtualClock):
        await bench.clock.pass_time(0.1)


def counting_starts(bench: Bench) -> str:
    """A program that leaves a mark each time that it is started, where it can."""
    count = 'echo >> "$LONGSHORE_SOCKETS/starts"; ' if bench.has_sockets else ""
    return f"{count}{{ready}}{FOREVER}"


async def once_only(bench: Bench, attachment: Attachment) -> None:
    """Check that `counting_starts` ran once."""
    if isinstance(attachment.reach, UnixReach):
        await bench.told(attachment, "ready")
        starts = await anyio.Path(attachment.reach.path, "starts").read_text()
        equal(starts.count("\n"), 1, "how often PID 1 was started")


async def _in_phase(bench: Bench, name: str, phase: Phase | None) -> Handle:
    handle = await bench.driver.create(bench.spec(name, FOREVER))
    if phase in (Phase.RUNNING, Phase.EXITED):
        await bench.driver.start(handle)
    if phase is Phase.EXITED:
        await bench.driver.signal(handle, SIGKILL)
        await ending(bench, handle)
    if phase is None:
        await bench.driver.remove(handle)
    return handle


async def _swallow(call: partial[Any]) -> None:
    await every([call])


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
