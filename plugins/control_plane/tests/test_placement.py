"""Properties of placement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from longshore_server.model import AllowedFunction, Gpu, PendingReason, Resources
from longshore_server.placement import Candidate, Refusal, fits, less, more, permits, place

gpus = st.none() | st.builds(
    Gpu, model=st.sampled_from(["A10", "T4"]), count=st.integers(min_value=0, max_value=4)
)
resources = st.builds(
    Resources,
    cpu_millis=st.integers(0, 8000),
    memory_bytes=st.integers(0, 100),
    disk_bytes=st.integers(0, 100),
    gpu=gpus,
)
allowed = st.lists(
    st.builds(AllowedFunction, namespace=st.none() | st.sampled_from(["a", "b"])), max_size=2
).map(tuple)
candidates = st.lists(
    st.builds(Candidate, executor_id=st.integers().map(str), free=resources, allowed=allowed),
    unique_by=lambda one: one.executor_id,
    max_size=8,
)
seeds = st.integers(0, 2**32 - 1)


@given(resources, candidates, seeds)
def test_what_is_placed_fits_and_is_permitted(wanted, given_candidates, seed):
    found = place(wanted, "a", given_candidates, seed)
    suitable = {
        one.executor_id: one
        for one in given_candidates
        if permits(one.allowed, "a") and fits(wanted, one.free)
    }
    assert (found in suitable) if suitable else isinstance(found, Refusal)


@given(resources, candidates, seeds, st.randoms())
def test_the_same_arguments_have_the_same_answer_in_any_order(wanted, given_candidates, seed, dice):
    shuffled = list(given_candidates)
    dice.shuffle(shuffled)
    assert place(wanted, "a", given_candidates, seed) == place(wanted, "a", shuffled, seed)


@given(resources, candidates, seeds)
def test_a_refusal_says_whether_more_executors_or_more_room_would_help(
    wanted, given_candidates, seed
):
    found = place(wanted, "a", given_candidates, seed)
    if isinstance(found, Refusal):
        anyone = any(permits(one.allowed, "a") for one in given_candidates)
        assert found.reason is (
            PendingReason.NO_RESOURCES_AVAILABLE if anyone else PendingReason.NO_EXECUTORS_AVAILABLE
        )


@given(candidates.filter(lambda all_of_them: len(all_of_them) == 2), seeds)
def test_of_two_the_one_with_more_memory_is_taken(pair, seed):
    open_to_all = [Candidate(executor_id=one.executor_id, free=one.free) for one in pair]
    found = place(Resources(), "a", open_to_all, seed)
    most = max(one.free.memory_bytes for one in open_to_all)
    (taken,) = [one for one in open_to_all if one.executor_id == found]
    assert taken.free.memory_bytes == most


@given(seeds)
def test_every_executor_is_considered_by_some_seed(seed):
    equal = [Candidate(executor_id=str(n), free=Resources(memory_bytes=1)) for n in range(5)]
    reached = {place(Resources(), "a", equal, seed + step) for step in range(64)}
    assert len(reached) >= 4


@given(resources, resources)
def test_giving_back_undoes_taking(free, taken):
    assert more(less(free, taken), taken) == free
