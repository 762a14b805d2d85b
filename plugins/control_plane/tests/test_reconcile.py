"""Properties of settling a full state."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from longshore_server.model import (
    ContainerStatus,
    PendingReason,
    ReportedContainer,
    Resources,
    SandboxRecord,
    SandboxSpec,
    SandboxStatus,
)
from longshore_server.reconcile import Belief, reconcile

names = st.sampled_from("abcdef")
resources = st.builds(Resources, cpu_millis=st.integers(0, 3))
reports = st.lists(
    st.builds(
        ReportedContainer,
        container_id=names,
        sandbox_id=st.none() | names,
        status=st.sampled_from(ContainerStatus),
        resources=resources,
    ),
    max_size=6,
)


def sandbox(name, status, *, placed):
    record = SandboxRecord(
        id=name,
        namespace="n",
        created_at_ms=1,
        spec=SandboxSpec(image="i", resources=Resources(cpu_millis=7), timeout_secs=0),
    )
    if not placed:
        return record
    pending = PendingReason.WAITING_FOR_CONTAINER if status is SandboxStatus.PENDING else None
    return replace(
        record, status=status, executor_id="e", container_id=name, pending_reason=pending
    )


@st.composite
def beliefs(draw):
    kinds = draw(
        st.dictionaries(names, st.sampled_from(["unplaced", "pending", "running"]), max_size=6)
    )
    return Belief(
        placed={
            name: sandbox(name, SandboxStatus(kind), placed=True)
            for name, kind in kinds.items()
            if kind != "unplaced"
        },
        unplaced={
            name: sandbox(name, SandboxStatus.PENDING, placed=False)
            for name, kind in kinds.items()
            if kind == "unplaced"
        },
        unacknowledged=draw(st.frozensets(names)),
        first=draw(st.booleans()),
    )


@given(reports, beliefs())
def test_each_difference_is_settled_once(reported, belief):
    verdict = reconcile(reported, belief)
    ended = [one for one, _ in verdict.ended]
    adopted = [one for one, _ in verdict.adopted]
    for settled in (verdict.started, ended, adopted, verdict.again, verdict.orphans):
        assert len(settled) == len(set(settled))
    assert not set(ended) & {*verdict.started, *verdict.again, *adopted}
    assert not set(verdict.started) & set(verdict.again)
    placed = {one.id for one in belief.placed.values()}
    assert set(ended) | set(verdict.again) <= placed
    assert set(adopted) <= belief.unplaced.keys()
    assert set(verdict.started) <= placed | set(adopted)


@given(reports, beliefs())
def test_what_runs_there_and_is_wanted_is_never_ended_or_removed(reported, belief):
    verdict = reconcile(reported, belief)
    last = {one.container_id: one for one in reported}
    for container_id, own in belief.placed.items():
        one = last.get(container_id)
        if one is not None and one.status is not ContainerStatus.TERMINATED:
            assert own.id not in [ended for ended, _ in verdict.ended]
            assert container_id not in verdict.orphans


@given(reports, beliefs())
def test_room_is_reserved_for_exactly_what_is_or_will_be_there(reported, belief):
    verdict = reconcile(reported, belief)
    there = {
        one.container_id
        for one in {one.container_id: one for one in reported}.values()
        if one.status is not ContainerStatus.TERMINATED
    }
    assert verdict.reserved.keys() == there | set(verdict.again)


@given(beliefs())
def test_a_command_under_way_is_repeated_and_not_taken_for_a_loss(belief):
    verdict = reconcile([], belief)
    for container_id, own in belief.placed.items():
        under_way = container_id in belief.unacknowledged or not belief.first
        repeated = own.status is SandboxStatus.PENDING and under_way
        assert (own.id in verdict.again) is repeated
        assert (own.id in [ended for ended, _ in verdict.ended]) is not repeated
