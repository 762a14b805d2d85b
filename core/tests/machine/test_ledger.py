from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import CapacityExhausted, ContainerId, Limits
from longshore_core._machine.ledger import Capacity, Ledger

TOTAL = Capacity(cpu_millis=4000, memory_bytes=1000, disk_bytes=1000)
IDS = st.sampled_from([ContainerId(name) for name in "abcdef"])
LIMITS = st.builds(
    lambda cpu, memory: Limits(cpu_millis=cpu, memory_bytes=memory),
    st.none() | st.integers(1, 3000),
    st.none() | st.integers(1, 700),
)


@given(st.lists(st.tuples(st.booleans(), IDS, LIMITS)))
def test_more_than_there_is_is_never_promised(steps: list) -> None:
    ledger = Ledger(total=TOTAL)
    for reserve, id_, limits in steps:
        if not reserve:
            ledger = ledger.release(id_)
            continue
        try:
            ledger = ledger.reserve(id_, limits)
        except CapacityExhausted as exc:
            assert exc.requested > exc.available  # noqa: PT017
        free = ledger.free()
        assert min(free.cpu_millis, free.memory_bytes, free.disk_bytes) >= 0


@given(IDS, LIMITS)
def test_a_released_promise_is_as_if_it_had_not_been_made(id_: ContainerId, limits: Limits) -> None:
    ledger = Ledger(total=TOTAL)
    assert ledger.adopt(id_, limits).release(id_) == ledger


def test_what_is_short_is_named() -> None:
    ledger = Ledger(total=TOTAL).reserve(ContainerId("a"), Limits(memory_bytes=900))
    with pytest.raises(CapacityExhausted) as caught:
        ledger.reserve(ContainerId("b"), Limits(memory_bytes=200))
    assert str(caught.value) == "not enough memory_bytes: requested 200, available 100"


def test_adopted_containers_may_hold_more_than_there_is() -> None:
    ledger = Ledger(total=TOTAL).adopt(ContainerId("a"), Limits(memory_bytes=5000))
    assert ledger.free().memory_bytes == -4000
    with pytest.raises(CapacityExhausted, match="available 0"):
        ledger.reserve(ContainerId("b"), Limits(memory_bytes=1))
