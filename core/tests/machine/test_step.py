from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from longshore_core import (
    Attachment,
    ContainerId,
    Exit,
    Found,
    Handle,
    KernelBug,
    NetworkPolicy,
    Phase,
)
from longshore_core._machine import step as machine
from longshore_core._machine.life import (
    Abandon,
    Admit,
    Admitted,
    Ask,
    Container,
    Create,
    Created,
    Creating,
    Delivered,
    Effect,
    Ending,
    Event,
    Exited,
    Failed,
    Forget,
    Halt,
    Order,
    Release,
    Released,
    Releasing,
    Remove,
    Removed,
    Removing,
    ReportStarted,
    ReportTerminated,
    Revoke,
    Running,
    Start,
    Started,
    Starting,
    Stopping,
    Surveyed,
    Terminated,
    TerminationReason,
    Unhealthy,
    Unwanted,
    Wake,
    Wanted,
    Watch,
    Woken,
)
from longshore_core.testing import matrix
from longshore_core.testing.samples import EVENTS, LIVES, NOW, ORDER, container

ID = ContainerId("c1")
HANDLE = Handle(id=ID)
ATTACHMENT = Attachment()
DOCS = Path(__file__).parents[3] / "docs"


def test_the_printed_matrix_is_up_to_date() -> None:
    assert (DOCS / "state-machine.md").read_text(encoding="utf-8") == matrix.render()


def test_every_state_answers_every_event_or_says_that_it_cannot_come() -> None:
    for life in LIVES:
        for event in EVENTS.values():
            try:
                machine.step(container(life), event, NOW)
            except KernelBug as bug:
                assert type(life).__name__ in str(bug)  # noqa: PT017


class World:
    """Plays the world to the machine: answers effects, in any order that lanes allow."""

    def __init__(self, order: Order = ORDER) -> None:
        self.now = NOW
        self.container, effects = machine.begin(order, incarnation=1, token="t", now=self.now)
        self.lane: list[Effect] = []
        self.watched = False
        self.asked = False
        self.log: list[Effect] = []
        self.forgotten = False
        self.reported_end = 0
        self.exists = False
        self.released = 0
        self.release(effects)

    def feed(self, event: Event) -> None:
        self.container, effects = machine.step(self.container, event, self.now)
        self.release(effects)

    def release(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self.log.append(effect)
            match effect:
                case Abandon():
                    self.lane.clear()
                    self.watched = self.asked = False
                case Watch():
                    self.watched = True
                case Ask():
                    self.asked = True
                case ReportTerminated():
                    self.reported_end += 1
                case Forget():
                    self.forgotten = True
                case Create() | Start() | Admit() | Release() | Halt() | Revoke() | Remove():
                    self.lane.append(effect)
                case _:
                    pass

    def perform(self, *, fail: bool) -> None:
        """The lane does its first effect."""
        effect = self.lane.pop(0)
        operation = type(effect).__name__.lower()
        why = Ending(reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR)
        if fail:
            self.feed(Failed(operation=operation, why=why))
            return
        match effect:
            case Create():
                self.exists = True
                self.feed(Created(handle=HANDLE))
            case Start():
                assert self.exists
                self.feed(Started(attachment=ATTACHMENT))
            case Admit():
                self.feed(Admitted())
            case Release():
                self.released += 1
                self.feed(Released())
            case Remove():
                self.exists = False
                self.feed(Removed())
            case _:
                pass


ACTIONS = st.lists(
    st.sampled_from([
        "do", "do", "do", "do", "fail", "unwant", "want", "exit", "sick", "wake", "restart", "tick",
    ]),
    max_size=40,
)  # fmt: skip


def play(world: World, action: str) -> None:
    match action:
        case "do" | "fail" if world.lane:
            world.perform(fail=action == "fail")
        case "unwant":
            world.feed(Unwanted())
        case "want" if not isinstance(world.container.life, Terminated):
            world.feed(Wanted(order=ORDER))
        case "exit" if world.watched:
            world.watched = False
            world.feed(Exited(exit=Exit(code=3)))
        case "sick" if world.asked:
            world.asked = False
            world.feed(Unhealthy(message="no answer"))
        case "wake":
            world.feed(Woken())
        case "tick":
            world.now += 700
        case "restart":
            world.lane.clear()
            world.watched = world.asked = False
            running = not isinstance(world.container.life, Creating)
            phase = Phase.RUNNING if running else Phase.CREATED
            found = Found(id=ID, handle=HANDLE, phase=phase, attachment=ATTACHMENT)
            world.feed(Surveyed(found=found if world.exists else None))
        case _:
            pass


@given(ACTIONS)
def test_whatever_happens_a_container_ends_once_and_leaves_nothing(actions: list[str]) -> None:
    world = World()
    for action in actions:
        play(world, action)
    for _ in range(60):
        world.now += 1_000
        world.feed(Unwanted())
        while world.lane:
            world.perform(fail=False)
        world.feed(Woken())
    assert isinstance(world.container.life, Terminated)
    assert world.reported_end == 1
    assert not world.exists
    world.feed(Delivered())
    assert world.forgotten


@given(ACTIONS)
@example(["fail", "do", "fail", "wake", "do", "wake", "do"])
def test_no_effect_touches_the_container_after_its_removal(actions: list[str]) -> None:
    world = World()
    for action in actions:
        play(world, action)
        if isinstance(world.container.life, Terminated):
            assert not world.lane


@given(ACTIONS)
def test_a_guest_is_never_released_before_its_policy_is_in_force(actions: list[str]) -> None:
    world = World()
    for action in actions:
        play(world, action)
    order = [type(effect) for effect in world.log if isinstance(effect, Admit | Release)]
    if Release in order:
        assert order[0] is Admit


def test_a_life_without_accidents_runs_in_order() -> None:
    world = World()
    while world.lane:
        world.perform(fail=False)
    assert isinstance(world.container.life, Running)
    names = [type(effect).__name__ for effect in world.log]
    up = ["Publish", "Create", "Start", "Publish", "Watch", "Admit", "Release"]
    assert names == [*up, "Publish", "Ask", "Wake", "ReportStarted"]


def test_an_unwanted_container_that_starts_up_is_abandoned_at_once() -> None:
    after, effects = machine.step(container(Creating()), Unwanted(), NOW)
    assert isinstance(after.life, Removing)
    assert effects[0] == Abandon()
    assert Remove(handle=None) in effects


def test_a_stopping_container_is_removed_when_its_grace_is_over() -> None:
    stopping, effects = machine.step(container(LIVES[4]), Unwanted(), NOW)
    assert isinstance(stopping.life, Stopping)
    assert Wake(at=NOW + machine.GRACE_SECONDS) in effects
    early, none = machine.step(stopping, Woken(), NOW + 1)
    assert isinstance(early.life, Stopping)
    assert none == (Wake(at=NOW + machine.GRACE_SECONDS),)
    late, _ = machine.step(stopping, Woken(), NOW + machine.GRACE_SECONDS)
    assert isinstance(late.life, Removing)


def test_a_timeout_ends_a_running_container_as_a_timeout() -> None:
    after, effects = machine.step(container(LIVES[4]), Woken(), NOW + 600)
    assert isinstance(after.life, Stopping)
    assert after.life.why.reason is TerminationReason.FUNCTION_TIMEOUT
    assert Halt(handle=HANDLE, attachment=ATTACHMENT) in effects


def test_a_warm_container_starts_its_clock_when_it_is_claimed() -> None:
    warm = replace(ORDER, sandbox_id=None)
    running = replace(container(LIVES[4]), order=warm, claimed_at=None)
    assert running.expires_at is None
    claimed, effects = machine.step(running, Wanted(order=ORDER), NOW + 50)
    assert claimed.expires_at == NOW + 650
    assert ReportStarted() in effects


@pytest.mark.parametrize(
    ("exit_", "reason"),
    [
        (Exit(code=0), TerminationReason.PROCESS_CRASH),
        (Exit(code=137), TerminationReason.PROCESS_CRASH),
        (Exit(signal=9), TerminationReason.PROCESS_CRASH),
        (Exit(signal=9, oom=True), TerminationReason.OOM),
        (Exit(), TerminationReason.UNKNOWN),
    ],
)
def test_ends_are_told_apart_truthfully(exit_: Exit, reason: TerminationReason) -> None:
    after, _ = machine.step(container(LIVES[4]), Exited(exit=exit_), NOW)
    assert isinstance(after.life, Removing)
    assert after.life.why.reason is reason
    assert after.life.why.exit == exit_


def test_a_failed_removal_is_tried_again_after_a_pause() -> None:
    removing = container(Removing(handle=HANDLE, why=Ending(reason=TerminationReason.UNKNOWN)))
    failed = Failed(operation="remove", why=Ending(reason=TerminationReason.UNKNOWN))
    waiting, effects = machine.step(removing, failed, NOW)
    assert effects == (Wake(at=NOW + machine.RETRY_SECONDS[0]),)
    again, effects = machine.step(waiting, Woken(), NOW + 1)
    assert again == waiting
    assert effects == (Abandon(), Revoke(), Remove(handle=HANDLE))


def test_an_impossible_event_quarantines_and_still_removes() -> None:
    running = container(LIVES[4])
    with pytest.raises(KernelBug, match=r"Created while Running \(c1\)") as caught:
        machine.step(running, Created(handle=HANDLE), NOW)
    after, effects = machine.quarantine(running, caught.value)
    assert after.quarantined
    assert isinstance(after.life, Removing)
    assert Remove(handle=HANDLE) in effects


def test_a_container_lost_while_nobody_watched_is_reported_as_unknown() -> None:
    after, _ = machine.step(container(LIVES[4]), Surveyed(found=None), NOW)
    assert isinstance(after.life, Removing)
    assert after.life.why.reason is TerminationReason.UNKNOWN


def test_an_adopted_container_keeps_running_under_its_policy() -> None:
    found = Found(id=ID, handle=HANDLE, phase=Phase.RUNNING, attachment=ATTACHMENT)
    after, effects = machine.step(container(LIVES[4]), Surveyed(found=found), NOW)
    assert isinstance(after.life, Running)
    kinds = [type(effect) for effect in effects]
    assert kinds[:3] == [Admit, type(effects[1]), Watch]
    assert not {Create, Start, Release, Halt, Remove} & set(kinds)


def test_delivery_forgets_only_what_has_terminated() -> None:
    ended: Container = container(LIVES[-1])
    _, effects = machine.step(ended, Delivered(), NOW)
    assert effects == (Forget(),)
    with pytest.raises(KernelBug):
        machine.step(container(Creating()), Delivered(), NOW)


def removing() -> Container:
    return container(Removing(handle=HANDLE, why=Ending(reason=TerminationReason.UNKNOWN)))


def failed(operation: str) -> Failed:
    return Failed(operation=operation, why=Ending(reason=TerminationReason.UNKNOWN))


def test_a_policy_that_cannot_be_taken_back_does_not_keep_the_container_but_the_record() -> None:
    stays, effects = machine.step(removing(), failed("revoke"), NOW)
    assert effects == (), "the removal behind it was abandoned"
    waiting, effects = machine.step(stays, Removed(), NOW)
    assert isinstance(waiting.life, Removing)
    assert effects == (Wake(at=NOW + machine.RETRY_SECONDS[0]),)
    again, effects = machine.step(waiting, Woken(), NOW + 1)
    assert effects == (Abandon(), Revoke(), Remove(handle=HANDLE))
    gone, _ = machine.step(again, Removed(), NOW + 2)
    assert isinstance(gone.life, Terminated)


@pytest.mark.parametrize("life", LIVES[2:5], ids=lambda life: life.tag)
def test_another_policy_is_put_in_force_also_while_the_container_starts(life) -> None:
    policy = NetworkPolicy(allow_internet_access=False)
    after, effects = machine.step(container(life), Wanted(order=replace(ORDER, policy=policy)), NOW)
    assert Admit(attachment=ATTACHMENT, policy=policy) in effects
    # Two of them answer: the first moves a starting container on, the second is nothing new.
    after, _ = machine.step(after, Admitted(), NOW)
    after, effects = machine.step(after, Admitted(), NOW)
    assert isinstance(after.life, Releasing | Running)
    assert effects == ()


def test_a_guest_is_asked_after_its_health_only_once_it_was_let_go() -> None:
    world = World()
    while world.lane:
        assert not world.asked
        world.perform(fail=False)
    assert world.asked
    assert [type(effect) for effect in world.log].count(Watch) == 1


@pytest.mark.parametrize("life", LIVES[1:4], ids=lambda life: life.tag)
def test_a_start_that_the_engine_has_lost_is_made_again(life) -> None:
    found = Found(id=ID, handle=HANDLE, phase=Phase.CREATED)
    after, effects = machine.step(container(life), Surveyed(found=found), NOW)
    assert isinstance(after.life, Starting)
    assert Start(handle=HANDLE) in effects


@pytest.mark.parametrize("life", LIVES[4:6], ids=lambda life: life.tag)
def test_what_ran_and_does_not_any_more_is_not_waited_for(life) -> None:
    found = Found(id=ID, handle=HANDLE, phase=Phase.CREATED)
    after, effects = machine.step(container(life), Surveyed(found=found), NOW)
    assert isinstance(after.life, Removing)
    assert Watch not in {type(effect) for effect in effects}
