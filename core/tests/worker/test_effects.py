from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from longshore_core import (
    Attachment,
    BackendError,
    ContainerId,
    EngineUnavailable,
    Exit,
    Facts,
    GuestError,
    Handle,
    ImageError,
    UnixReach,
)
from longshore_core._machine.life import (
    Ask,
    Create,
    Created,
    Exited,
    Failed,
    Halt,
    Order,
    Release,
    Released,
    Remove,
    Removed,
    TerminationReason,
    Unhealthy,
    Watch,
)
from longshore_core._wire.convert import order_of
from longshore_core._worker.effects import MESSAGE_LIMIT, Deadlines, Performer
from longshore_proto import executor_api_pb2 as pb

C1 = ContainerId("c1")
ORDER = Order(id=C1)
HANDLE = Handle(id=C1)
REACH = Attachment(reach=UnixReach("/nowhere"))
RELEASE = Release(attachment=REACH, order=ORDER, token="t")


@pytest.fixture
def anyio_backend(virtual_time):
    return virtual_time


@pytest.fixture
def performer(world) -> Performer:
    return Performer(world.backends(), "executor")


async def test_an_image_is_there_before_its_container_is_made(performer, world) -> None:
    create = Create(order=replace(ORDER, image="shop/app:1"))
    assert isinstance(await performer.perform(C1, create), Created)
    assert world.calls == ["ensure shop/app:1", "create c1"]


async def test_operators_find_a_container_by_what_it_is_for(performer, world) -> None:
    description = pb.ContainerDescription(
        id="c1",
        function=pb.FunctionRef(namespace="shop", application_version="7"),
        sandbox_metadata=pb.SandboxMetadata(sandbox_id="s1"),
        pool_id="p1",
    )
    await performer.perform(C1, Create(order=order_of(description)))
    (spec,) = world.specs
    assert spec.labels == {
        "indexify.managed": "true",
        "managed": "true",
        "executor_id": "executor",
        "fn_executor_id": "c1",
        "container_id": "c1",
        "sandbox_id": "s1",
        "pool_id": "p1",
        "namespace": "shop",
        "app_version": "7",
        "com.datadoghq.ad.tags": '["namespace:shop", "app_version:7"]',
    }


async def test_without_an_image_nothing_is_pulled(performer, world) -> None:
    assert isinstance(await performer.perform(C1, Create(order=ORDER)), Created)
    assert world.calls == ["create c1"]


async def test_an_image_that_cannot_be_had_ends_the_container_as_such(performer, world) -> None:
    world.faults["ensure"].append(ImageError("no such image: shop/app:1"))
    failed = await performer.perform(C1, Create(order=replace(ORDER, image="shop/app:1")))
    assert isinstance(failed, Failed)
    assert failed.why.reason is TerminationReason.STARTUP_FAILED_BAD_IMAGE
    assert "shop/app:1" in failed.why.message
    assert world.calls == ["ensure shop/app:1"]


async def test_no_session_is_left_open_whatever_happens(performer, world) -> None:
    assert await performer.perform(C1, RELEASE) == Released()
    world.faults["go"].append(GuestError("no"))
    assert isinstance(await performer.perform(C1, RELEASE), Failed)
    world.gates["go"] = anyio.Event()
    with anyio.move_on_after(1):
        await performer.perform(C1, RELEASE)
    assert world.sessions == 0
    assert world.calls.count("aclose") == 3


async def test_a_guest_that_cannot_be_let_go_of_in_order_fails_nothing(performer, world) -> None:
    world.faults["aclose"].append(ZeroDivisionError())
    assert await performer.perform(C1, RELEASE) == Released()
    world.gates["aclose"] = anyio.Event()
    began = anyio.current_time()
    assert await performer.perform(C1, RELEASE) == Released()
    assert anyio.current_time() - began < 3


@pytest.mark.parametrize("fault", [GuestError("gone"), ZeroDivisionError()])
async def test_a_guest_that_does_not_stop_is_signalled(performer, world, fault) -> None:
    world.faults["stop"].append(fault)
    halt = Halt(handle=HANDLE, attachment=REACH)
    assert await performer.perform(C1, halt) is None
    assert world.calls[-1] == "signal SIGTERM c1"


async def test_a_guest_that_hangs_is_signalled_before_the_deadline(performer, world) -> None:
    world.gates["stop"] = anyio.Event()
    assert await performer.perform(C1, Halt(handle=HANDLE, attachment=REACH)) is None
    assert world.calls[-1] == "signal SIGTERM c1"


async def test_a_guest_is_given_up_after_six_unanswered_checks_in_a_row(performer, world) -> None:
    world.faults["health"].extend(GuestError("no answer") for _ in range(5))

    async def fail_again() -> None:
        await anyio.sleep(60)
        world.faults["health"].extend(ZeroDivisionError("x") for _ in range(6))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail_again)
        unhealthy = await performer.watch(C1, Ask(attachment=REACH))
    assert isinstance(unhealthy, Unhealthy)
    assert unhealthy.message.startswith("the guest did not answer 6 health checks: plugin play")
    assert anyio.current_time() > 60
    assert world.sessions == 0


async def test_a_guest_that_crashes_when_it_is_let_go_of_is_asked_on(performer, world) -> None:
    world.faults["health"].append(GuestError("once"))
    world.faults["aclose"].extend(ZeroDivisionError() for _ in range(3))
    with anyio.move_on_after(60) as patience:
        await performer.watch(C1, Ask(attachment=REACH))
    assert patience.cancelled_caught
    assert world.calls.count("health") > 3


async def test_what_has_no_guest_is_not_asked_after_its_health(performer, world) -> None:
    assert await performer.watch(C1, Ask(attachment=Attachment())) is None
    assert world.calls == []


async def test_an_engine_that_comes_and_goes_ends_nobody(performer, world) -> None:
    world.faults["wait"].extend([
        EngineUnavailable("away"), BackendError("conflict", retryable=True),
    ])  # fmt: skip
    world.end("c1", Exit(code=7))
    assert await performer.watch(C1, Watch(handle=HANDLE)) == Exited(exit=Exit(code=7))


async def test_a_wait_that_breaks_ends_the_container_with_the_reason(performer, world) -> None:
    world.faults["wait"].append(ZeroDivisionError("x"))
    failed = await performer.watch(C1, Watch(handle=HANDLE))
    assert isinstance(failed, Failed)
    assert failed.why.reason is TerminationReason.INTERNAL_ERROR


async def test_an_effect_past_its_deadline_has_failed(performer, world) -> None:
    world.gates["create"] = anyio.Event()
    failed = await performer.perform(C1, Create(order=ORDER))
    assert isinstance(failed, Failed)
    assert (failed.operation, failed.why.code) == ("create", "TIMEOUT")
    assert failed.why.message == "create was not done within 630 seconds"
    assert world.cancelled == ["create c1"]


async def test_a_timeout_of_the_plugin_s_own_is_a_crash_and_not_our_deadline(
    performer, world
) -> None:
    world.faults["create"].append(TimeoutError())
    failed = await performer.perform(C1, Create(order=ORDER))
    assert isinstance(failed, Failed)
    assert failed.why.code == "PLUGIN_CRASHED"


async def test_an_error_out_of_a_plugin_s_task_group_is_still_that_error(performer, world) -> None:
    world.faults["create"].append(ExceptionGroup("tasks", [EngineUnavailable("away")]))
    failed = await performer.perform(C1, Create(order=ORDER))
    assert isinstance(failed, Failed)
    assert (failed.why.code, failed.why.message) == ("ENGINE_UNAVAILABLE", "away")


async def test_a_message_can_always_be_stored_and_sent(performer, world) -> None:
    world.faults["create"].append(BackendError("no file \udcff " + "x" * 1_000_000))
    failed = await performer.perform(C1, Create(order=ORDER))
    assert isinstance(failed, Failed)
    assert failed.why.message.startswith("no file \\udcff xxx")
    assert len(failed.why.message.encode()) < MESSAGE_LIMIT + 16


async def test_a_guest_without_a_reach_is_not_started_without_its_secrets(performer, world) -> None:
    order = replace(ORDER, secret_names=("KEY",))
    effect = Release(attachment=Attachment(), order=order, token="t")
    failed = await performer.perform(C1, effect)
    assert isinstance(failed, Failed)
    assert failed.why.code == "UNSUPPORTED_CAPABILITY"
    assert world.calls == []


@pytest.mark.parametrize("values", [{}, {"KEY": None}, {"KEY": 1}])
async def test_a_secret_that_is_no_text_is_missing(performer, world, values) -> None:
    world.values = values
    order = replace(ORDER, secret_names=("KEY",))
    failed = await performer.perform(C1, Release(attachment=REACH, order=order, token="t"))
    assert isinstance(failed, Failed)
    assert failed.why.message == "plugin play (acme-play 1.0): fetch left out KEY"
    assert "go" not in world.calls


async def test_what_was_not_seen_to_be_created_is_looked_for_by_its_id(performer, world) -> None:
    assert isinstance(await performer.perform(C1, Create(order=ORDER)), Created)
    assert await performer.perform(C1, Remove(handle=None)) == Removed()
    assert world.calls[-2:] == ["survey", "remove c1"]
    assert await performer.perform(C1, Remove(handle=None)) == Removed()
    world.faults["survey"].append(EngineUnavailable("away"))
    assert isinstance(await performer.perform(C1, Remove(handle=None)), Failed)


def test_a_driver_gives_up_by_itself_before_the_kernel_does() -> None:
    facts = Facts(create_seconds=3600, start_seconds=300)
    deadlines = Deadlines.of(facts, release=10)
    assert deadlines.create > facts.create_seconds
    assert deadlines.start > facts.start_seconds
    assert deadlines.release == 10
    assert Deadlines.of(Facts(), release=60) == Deadlines()
