"""A container's time, kept by the kernel's machine and enforced by the driver, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import anyio

from longshore_core._machine.life import Container, Event, TerminationReason, Wanted, Woken
from longshore_core._machine.step import step
from longshore_core._model import Phase
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal
from longshore_core.testing.law import PROGRAMS, RECOVERS, Group, Law, laws_in
from longshore_core.testing.programs import IGNORES_TERM, heeds_term
from longshore_core.testing.tended import GRACE_SECONDS, Tended

TTL: Final[Group[Bench]] = Group("ttl")


@TTL.law("T1", traced=True)
async def what_has_had_its_time_ends_without_a_server(bench: Bench) -> None:
    tended = await _begun(bench, heeds_term(0))
    equal(tended.wakes_at, 600.0, "when it wants to be woken")
    await tended.wake()
    equal(tended.life, "Stopping", "its state when its time has come")
    with anyio.fail_after(10):
        await tended.see_end()
    await _is_over(bench, tended)


@TTL.law("T1.2", requires=(PROGRAMS,), traced=True)
async def what_ignores_that_its_time_has_come_ends_after_the_grace(bench: Bench) -> None:
    tended = await _begun(bench, IGNORES_TERM)
    await tended.wake()
    equal(tended.wakes_at, 600.0 + GRACE_SECONDS, "when it is ended by force")
    tended.now = 600.0 + GRACE_SECONDS / 2
    await tended.happen(Woken())
    equal(await bench.phase("c"), Phase.RUNNING, "its phase during the grace")
    await tended.wake()
    await _is_over(bench, tended)


@TTL.law("T1.3", seconds=60)
async def a_renewal_and_an_expiry_that_race_end_it_neither_early_nor_never(bench: Bench) -> None:
    tended = await _begun(bench, heeds_term(0))
    tended.container, tended.now = _raced(bench, tended.container)
    await tended.wake()
    if tended.life == "Running":  # it was woken for the time that it had at first
        await tended.wake()
    equal(tended.life, "Stopping", "its state when its time has come")
    with anyio.fail_after(10):
        await tended.see_end()
    await _is_over(bench, tended)


@TTL.law("T1.4", requires=(RECOVERS,))
async def what_expired_while_no_worker_ran_ends_when_one_does(bench: Bench) -> None:
    tended = await _begun(bench, heeds_term(0))
    stored = tended.container
    await bench.reopen()
    await tended.survive(bench.driver, stored, 10_000.0)
    equal(tended.life, "Running", "its state, as it was stored")
    await tended.wake()
    with anyio.fail_after(10):
        await tended.see_end()
    await _is_over(bench, tended)


async def _begun(bench: Bench, script: str) -> Tended:
    tended = Tended(bench.driver, bench.spec("c", script), timeout=600)
    await tended.begin()
    equal(tended.life, "Running", "its state")
    found = await bench.found("c")
    if "{ready}" in script and found is not None and found.attachment is not None:
        await bench.told(found.attachment, "ready")
    return tended


def _raced(bench: Bench, begun: Container) -> tuple[Container, float]:
    """One life after the other, renewed and woken by lot; the last one runs, at that time.

    On the machine alone: a driver hears only of the end, which it brings about for the last.
    """
    container, now = begun, 0.0
    for _ in range(bench.many(1000, 10_000)):
        now += bench.random.uniform(0, 200)
        before, expires_at = container, container.expires_at or 0.0
        renewed = bench.random.random() < 0.6
        if renewed:
            seconds = now - (before.claimed_at or 0.0) + bench.random.choice([0, 1, 300, 900])
            event: Event = Wanted(order=replace(before.order, timeout_seconds=seconds))
        else:
            event = Woken()
        container, _ = step(before, event, now, GRACE_SECONDS)
        due = not renewed and expires_at <= now
        when = f"its state at {now:.0f} s, when its time is {expires_at:.0f} s"
        equal(type(container.life).__name__, "Stopping" if due else "Running", when)
        if due:
            container = replace(begun, claimed_at=now)
    return container, now


async def _is_over(bench: Bench, tended: Tended) -> None:
    equal(tended.life, "Terminated", "its state at the end")
    why = getattr(tended.container.life, "why", None)
    reason = TerminationReason.FUNCTION_TIMEOUT
    equal(getattr(why, "reason", None), reason, "the reason that a server would hear")
    equal(await bench.found("c"), None, "what the driver still has of it")


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
