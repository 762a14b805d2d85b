from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from longshore_core import ContainerId, Found, Handle, Phase
from longshore_core._machine.life import Terminated
from longshore_core._machine.reconcile import reconcile
from longshore_core.testing.samples import LIVES, container

IDS = st.sampled_from([ContainerId(f"c{number}") for number in range(8)])
RECORDS = st.dictionaries(IDS, st.sampled_from(LIVES).map(container))
SURVEY = st.lists(
    st.builds(
        lambda id_, phase: Found(id=id_, handle=Handle(id=id_), phase=phase),
        IDS,
        st.sampled_from(Phase),
    ),
    unique_by=lambda found: found.id,
)


@given(RECORDS, SURVEY)
def test_each_record_gets_one_event(records: dict, survey: list[Found]) -> None:
    assert set(reconcile(records, survey).events) == set(records)


@given(RECORDS, SURVEY)
def test_a_live_record_is_never_swept_and_a_stray_always_is(
    records: dict, survey: list[Found]
) -> None:
    swept = {found.id for found in reconcile(records, survey).sweep}
    for found in survey:
        record = records.get(found.id)
        wanted = record is not None and not isinstance(record.life, Terminated)
        assert (found.id in swept) is not wanted


@given(RECORDS, SURVEY)
def test_events_carry_what_was_found(records: dict, survey: list[Found]) -> None:
    by_id = {found.id: found for found in survey}
    for id_, event in reconcile(records, survey).events.items():
        assert event.found == by_id.get(id_)
