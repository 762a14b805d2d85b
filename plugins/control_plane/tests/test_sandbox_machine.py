"""Properties of a sandbox's life."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import KernelBug
from longshore_server import sandboxes
from longshore_server.model import (
    AddContainer,
    ContainerDetail,
    PendingReason,
    RemoveContainer,
    Resources,
    SandboxRecord,
    SandboxSpec,
    SandboxStatus,
    TerminationReason,
)
from longshore_server.sandboxes import (
    Adopted,
    Deleted,
    Detailed,
    Ended,
    ExecutorLost,
    Placed,
    Started,
    Unplaceable,
    step,
)

NEW = SandboxRecord(
    id="s",
    namespace="n",
    created_at_ms=1,
    spec=SandboxSpec(image="i", resources=Resources(), timeout_secs=0),
)
events = st.one_of(
    st.builds(Placed, st.sampled_from(["e1", "e2"])),
    st.builds(Adopted, st.sampled_from(["e1", "e2"]), st.just("c")),
    st.builds(
        Unplaceable,
        st.sampled_from(
            [PendingReason.NO_EXECUTORS_AVAILABLE, PendingReason.NO_RESOURCES_AVAILABLE]
        ),
    ),
    st.just(Started()),
    st.builds(Detailed, st.builds(ContainerDetail, exit_code=st.none() | st.integers(0, 255))),
    st.builds(Deleted, st.just(2)),
    st.builds(Ended, st.sampled_from(TerminationReason), st.just(3)),
    st.builds(ExecutorLost, st.just(4)),
)


def live(history):
    """What a sandbox goes through; the impossible is left out, as the scheduler does."""
    record, path, effects = NEW, [NEW], []
    for event in history:
        try:
            record, more = step(record, event)
        except KernelBug:
            continue
        path.append(record)
        effects += more
    return path, effects


@given(st.lists(events, max_size=12))
def test_the_end_is_final(history):
    path, _ = live(history)
    ends = [one for one in path if one.status is SandboxStatus.TERMINATED]
    assert all(one == ends[0] for one in ends)
    assert path[len(path) - len(ends) :] == ends


@given(st.lists(events, max_size=12))
def test_a_placed_sandbox_is_never_placed_again(history):
    path, effects = live(history)
    places = {one.executor_id for one in path} - {None}
    assert len(places) <= 1
    adds = [one for one in effects if isinstance(one.command, AddContainer)]
    removals = [one for one in effects if isinstance(one.command, RemoveContainer)]
    assert len(adds) <= 1
    assert len(removals) <= 1
    assert {one.executor_id for one in effects} <= places


@given(st.lists(events, max_size=12))
def test_the_fields_agree_with_the_status(history):
    path, _ = live(history)
    for one in path:
        pending = one.status is SandboxStatus.PENDING
        terminated = one.status is SandboxStatus.TERMINATED
        assert (one.pending_reason is not None) is pending
        assert (one.outcome is not None) is terminated
        assert (one.terminated_at_ms is not None) is terminated
        assert (one.executor_id is None) is (one.container_id is None)
        if one.status is SandboxStatus.RUNNING:
            assert one.executor_id is not None
        if pending and one.executor_id is not None:
            assert one.pending_reason is PendingReason.WAITING_FOR_CONTAINER


@given(st.lists(events, max_size=12), events)
def test_what_has_ended_is_disturbed_by_no_stale_fact(history, late):
    path, _ = live([*history, Deleted(9)])
    over = path[-1]
    if isinstance(late, Placed | Adopted | Unplaceable):
        with pytest.raises(KernelBug):
            step(over, late)
    else:
        assert step(over, late) == (over, ())


def test_an_impossible_event_is_our_bug_and_says_where():
    with pytest.raises(KernelBug, match=r"^Started while pending \(unplaced\): s$"):
        step(NEW, Started())


@pytest.mark.parametrize("reason", TerminationReason)
def test_each_reason_has_its_outcome(reason):
    placed, _ = step(NEW, Placed("e"))
    ended, effects = step(placed, Ended(reason, 5))
    assert effects == ()
    assert ended.outcome == (
        sandboxes.TIMED_OUT
        if reason is TerminationReason.FUNCTION_TIMEOUT
        else f"Failure(ContainerTerminated({reason.value}))"
    )


def test_deleting_what_is_nowhere_tells_nobody():
    ended, effects = step(NEW, Deleted(5))
    assert (ended.outcome, effects) == ("Success(UserTerminated)", ())
