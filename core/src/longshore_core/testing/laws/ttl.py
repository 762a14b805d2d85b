"""A container's time, kept by the kernel's machine and enforced by the driver, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import anyio

from longshore_core._machine.life import Running, TerminationReason, Wanted, Woken
from longshore_core._model import Phase
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, expect
from longshore_core.testing.law import PROGRAMS, RECOVERS, Group, Law, laws_in
from longshore_core.testing.programs import FOREVER, IGNORES_TERM, heeds_term
from longshore_core.testing.tended import GRACE_SECONDS, Tended

TTL: Final[Group[Bench]] = Group("ttl")


@TTL.law("T1", traced=True)
async def what_has_had_its_time_ends_without_a_server(bench: Bench) -> None:
    tended = await _begun(bench, _until_told(bench))
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
    tended = await _begun(bench, _until_told(bench))
    order = tended.container.order
    for _ in range(bench.many(1000, 10_000)):
        tended.now += bench.random.uniform(0, 200)
        before = tended.container
        if bench.random.random() < 0.6:
            timeout = tended.now + bench.random.choice([0.0, 1.0, 300.0, 900.0])
            order = replace(order, timeout_seconds=timeout)
            await tended.happen(Wanted(order=order))
        else:
            await tended.happen(Woken())
        due = before.expires_at is not None and before.expires_at <= tended.now
        early = isinstance(before.life, Running) and tended.life != "Running" and not due
        expect(not early, f"ended at {tended.now:.0f} s, before its time at {before.expires_at} s")
        if tended.life != "Running":
            break
    while tended.life == "Running":
        await tended.wake()
    with anyio.fail_after(10):
        await tended.see_end()
    await _is_over(bench, tended)


@TTL.law("T1.4", requires=(RECOVERS,))
async def what_expired_while_no_worker_ran_ends_when_one_does(bench: Bench) -> None:
    tended = await _begun(bench, _until_told(bench))
    stored = tended.container
    await bench.reopen()
    await tended.survive(bench.driver, stored, 10_000.0)
    equal(tended.life, "Running", "its state, as it was stored")
    await tended.wake()
    with anyio.fail_after(10):
        await tended.see_end()
    await _is_over(bench, tended)


def _until_told(bench: Bench) -> str:
    """What ends when it is told to. As PID 1 of a namespace, it must say so: it has no default."""
    return heeds_term(0) if bench.has_programs else FOREVER


async def _begun(bench: Bench, script: str) -> Tended:
    tended = Tended(bench.driver, bench.spec("c", script), timeout=600)
    await tended.begin()
    equal(tended.life, "Running", "its state")
    found = await bench.found("c")
    if "{ready}" in script and found is not None and found.attachment is not None:
        await bench.told(found.attachment, "ready")
    return tended


async def _is_over(bench: Bench, tended: Tended) -> None:
    equal(tended.life, "Terminated", "its state at the end")
    why = getattr(tended.container.life, "why", None)
    reason = TerminationReason.FUNCTION_TIMEOUT
    equal(getattr(why, "reason", None), reason, "the reason that a server would hear")
    equal(await bench.found("c"), None, "what the driver still has of it")


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
