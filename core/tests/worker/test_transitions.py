from __future__ import annotations

import anyio
from longshore_core import ContainerId, Gap, Transition
from longshore_core._worker.transitions import Transitions

C = ContainerId("c")


async def test_an_observer_sees_what_happens_after_it_subscribed() -> None:
    hub = Transitions()
    hub.publish(C, "unknown", "creating", "")
    async with hub.subscribe() as transitions:
        hub.publish(C, "creating", "starting", "why")
        expected = Transition(seq=2, container=C, before="creating", after="starting", reason="why")
        assert await anext(transitions) == expected


async def test_what_a_slow_observer_misses_is_reported_as_one_gap() -> None:
    hub = Transitions(backlog=3)
    async with hub.subscribe() as transitions:
        for number in range(10):
            hub.publish(C, str(number), str(number + 1), "")
        seen = [await anext(transitions) for _ in range(4)]
    assert seen[0] == Gap(first=1, last=7)
    assert [item.seq for item in seen[1:] if isinstance(item, Transition)] == [8, 9, 10]


async def test_a_gap_in_the_middle_is_exact() -> None:
    hub = Transitions(backlog=2)
    async with hub.subscribe() as transitions:
        hub.publish(C, "a", "b", "")
        first = await anext(transitions)
        for _ in range(5):
            hub.publish(C, "a", "b", "")
        gap = await anext(transitions)
    assert isinstance(first, Transition)
    assert gap == Gap(first=2, last=4)


async def test_an_observer_waits_for_what_comes() -> None:
    hub = Transitions()
    seen: list[Transition | Gap] = []

    async def observe(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with hub.subscribe() as transitions:
            task_status.started()
            seen.append(await anext(transitions))

    async with anyio.create_task_group() as tasks:
        await tasks.start(observe)
        hub.publish(C, "a", "b", "")
    assert len(seen) == 1
