"""What every guest keeps: how it is launched, and how it is spoken with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from longshore_core._errors import PluginLoadError, UnknownPlugin
from longshore_core._model import (
    ContainerId,
    ContainerSpec,
    Facts,
    Handle,
    Launch,
    Limits,
    UnixReach,
)
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.abc import Guest, Session
from longshore_core.testing.bench import SeamBench, bare_host
from longshore_core.testing.expect import Broken, equal, expect, refused
from longshore_core.testing.law import Group, Law, Missing, laws_in
from longshore_core.testing.subject import find_subject

GuestBench = SeamBench[Guest]
GUEST: Final[Group[GuestBench]] = Group("guest")

_CARRIER: Final = "fork_exec"
_END_SECONDS: Final = 20.0


@GUEST.law("G1")
async def launching_is_pure_and_keeps_what_was_asked_for(bench: GuestBench) -> None:
    spec = _spec(bench)
    for facts in (Facts(), Facts(images=False, mounts=False)):
        launched = bench.thing.launch(spec, facts)
        equal(bench.thing.launch(spec, facts), launched, "the same, launched again")
        kept = (launched.id, launched.image, launched.limits, launched.labels)
        equal(kept, (spec.id, spec.image, spec.limits, spec.labels), "what it may not change")
        expect(launched.argv, "it launches nothing")
        expect(all(launched.env.get(name) == v for name, v in spec.env.items()), "env was changed")


@GUEST.law("G2", seconds=70)
async def connecting_to_nothing_is_an_error_in_time(bench: GuestBench) -> None:
    empty = bench.scratch / "empty"
    empty.mkdir()
    with anyio.fail_after(60):
        await refused(bench.thing.connect(UnixReach(str(empty))), "connecting to nothing")


@GUEST.law("G3")
async def a_guest_is_well_before_and_after_it_is_released(bench: GuestBench) -> None:
    async with _carried(bench) as carried:
        await carried.session.health()
        await carried.session.go(Launch(token="one"))
        await carried.session.health()


@GUEST.law("G4")
async def the_same_launch_again_is_answered_the_same_and_another_is_refused(
    bench: GuestBench,
) -> None:
    async with _carried(bench) as carried:
        for _ in range(3):
            await carried.session.go(Launch(token="one", env={"A": "b"}))
        another = Launch(token="two")
        await refused(carried.session.go(another), "a second launch, of another token")


@GUEST.law("G5")
async def a_guest_that_is_asked_to_stop_ends(bench: GuestBench) -> None:
    async with _carried(bench) as carried:
        await carried.session.go(Launch(token="one", entrypoint=("sleep", "1000")))
        await carried.session.stop()
        with anyio.fail_after(_END_SECONDS):
            end = await carried.driver.wait(carried.handle)
        equal((end.signal, end.oom), (None, False), "how it ended: by itself")


@GUEST.law("G6")
async def letting_go_of_a_guest_does_not_end_it(bench: GuestBench) -> None:
    async with _carried(bench) as carried:
        await carried.session.aclose()
        again = await bench.thing.connect(carried.reach)
        await again.health()
        await again.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carried:
    driver: AdaptedDriver
    handle: Handle
    reach: UnixReach
    session: Session


@asynccontextmanager
async def _carried(bench: GuestBench) -> AsyncGenerator[_Carried]:
    """The guest as PID 1 of a container on this host."""
    try:
        subject = find_subject(_CARRIER)
    except (UnknownPlugin, PluginLoadError) as exc:
        raise Missing(f"the driver {_CARRIER}, to carry the guest") from exc
    state = bench.root / "carrier"
    state.mkdir()
    host = bare_host(_CARRIER, f"{bench.mark}/carrier", state)
    async with subject.open(host) as runtime:
        driver = AdaptedDriver(runtime, subject.origin)
        spec = bench.thing.launch(_spec(bench, limits=Limits()), driver.facts)
        if not spec.sockets:
            raise Missing("a guest that listens: this one asks for no sockets")
        handle = await driver.create(spec)
        try:
            reach = (await driver.start(handle)).reach
            if not isinstance(reach, UnixReach):
                raise Broken("the carrier gives it no sockets")
            session = await bench.thing.connect(reach)
            yield _Carried(driver=driver, handle=handle, reach=reach, session=session)
            await session.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await driver.remove(handle)


def _spec(bench: GuestBench, limits: Limits | None = None) -> ContainerSpec:
    return ContainerSpec(
        id=ContainerId(f"{bench.mark}-c"),
        image="example/image:1",
        argv=("sleep", "1000"),
        env={"COLOUR": "green", "LONGSHORE_LAW": bench.mark},
        labels={"a": "b"},
        limits=limits or Limits(pids=64),
    )


LAWS: Final[tuple[Law[GuestBench], ...]] = laws_in(globals())
