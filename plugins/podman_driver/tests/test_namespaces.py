"""Namespaces by their numbers."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st
from longshore_podman.namespaces import Plan, bridging, free_numbers, inside, outside

PLAN = Plan(bridge="longshore-pod", subnet=IPv4Network("10.9.0.0/28"), mark="ab")


@given(st.sets(st.integers(0, 20)), st.integers(0, 30))
def test_each_free_number_comes_once_and_none_that_is_taken(taken: set[int], after: int) -> None:
    numbers = list(free_numbers(PLAN, [f"lsp{number}" for number in taken], after))
    assert sorted(numbers) == [n for n in range(2, 15) if n not in taken]


def test_the_one_last_used_comes_up_last() -> None:
    assert list(islice(free_numbers(PLAN, [], 5), 3)) == [6, 7, 8]
    assert list(free_numbers(PLAN, [], 5))[-1] == 5


def test_all_follows_from_the_number_and_fits() -> None:
    largest = Plan(bridge="longshore-pod", subnet=IPv4Network("10.0.0.0/16"), mark="0" * 8)
    for number in (2, 65_534):
        space = largest.at(number)
        assert len(space.interface) <= 15
        assert IPv4Network("10.0.0.0/16").supernet_of(IPv4Network(space.address))
        assert largest.own([space.name, "longshore-pod-other-3", "x"]) == {number}


def test_it_is_closed_before_anything_can_run_in_it() -> None:
    lines = outside(PLAN, PLAN.at(4))
    assert lines[0] == "netns add longshore-pod-ab-4"
    isolated = lines.index("link set lsp4 type bridge_slave isolated on")
    assert isolated < lines.index("link set lsp4 up")
    assert "link set eth0 addrgenmode none" in inside(PLAN, PLAN.at(4))
    assert "link set longshore-pod addrgenmode none" in bridging(PLAN)
