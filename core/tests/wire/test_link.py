"""The worker's end of the wire, replayed against a server that keeps, or breaks, its rules."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import grpc
from longshore_core._app import WorkerRun, run_worker
from longshore_core._builtin.null_driver import NullDriver
from longshore_core._settings import WorkerSettings
from longshore_core._wire import link
from longshore_proto import executor_api_pb2 as pb

sys.path.insert(0, str(Path(__file__).parent))
from scripted_server import ScriptedServer, sandbox, scripted_server

from tests.machine import fair_time


async def test_registration_is_two_heartbeats_and_state_comes_only_when_asked(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port, labels={"zone": "z1"}):
        await server.until(lambda: server.registered)
        first, second = server.beats[:2]
    assert not first.HasField("full_state")
    assert first.status == pb.EXECUTOR_STATUS_RUNNING
    state = second.full_state
    assert state.labels == {"zone": "z1"}
    assert state.proxy_address.endswith(":8095")
    assert state.total_container_resources.cpu_count > 0
    assert not state.total_resources.HasField("gpu")


async def test_a_container_is_started_reported_and_its_command_acknowledged(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        server.add(sandbox("s1"))
        await server.until(lambda: server.started() == ["s1"])
        await server.until(lambda: server.acks[-1] == 1)
        server.remove("s1")
        await server.until(lambda: server.terminated())
        assert server.terminated() == {"s1": pb.CONTAINER_TERMINATION_REASON_FUNCTION_CANCELLED}
        await server.until(lambda: server.acks[-1] == 2)


async def test_removing_what_is_not_there_is_acknowledged_and_not_reported(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        server.remove("unknown")
        await server.until(lambda: server.acks[-1:] == [1])
        assert server.responses == []


async def test_a_redelivered_command_is_applied_once(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        server.bend_poll = lambda commands: commands * 3
        server.add(sandbox("s1"))
        await server.until(lambda: server.acks[-1:] == [1])
        await server.until(lambda: server.started())
        assert server.started() == ["s1"]


async def test_what_follows_a_gap_is_left_until_the_gap_is_filled(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        held: list[bool] = []

        def lose_the_first(commands: list[pb.Command]) -> list[pb.Command]:
            held.append(True)
            return commands[1:] if len(held) == 1 else commands

        server.outbox = [
            pb.Command(seq=1, add_container=pb.AddContainer(container=sandbox("a"))),
            pb.Command(seq=2, add_container=pb.AddContainer(container=sandbox("b"))),
        ]
        server.bend_poll = lose_the_first
        server._notify()
        await server.until(lambda: len(server.started()) == 2)
        assert server.started() == ["a", "b"]
        assert server.acks[:2] == [None, None]


async def test_reports_are_kept_until_a_heartbeat_with_them_was_accepted(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        refused: list[pb.HeartbeatRequest] = []

        def refuse_reports(beat: pb.HeartbeatRequest) -> grpc.StatusCode | None:
            if beat.command_responses and len(refused) < 2:
                refused.append(beat)
                return grpc.StatusCode.INTERNAL
            return None

        server.bend_heartbeat = refuse_reports
        server.add(sandbox("s1"))
        await server.until(lambda: server.started())
        assert len(refused) == 2
        assert server.started() == ["s1"]


async def test_an_invalid_container_is_refused_aloud(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        function = sandbox("f1")
        function.container_type = pb.CONTAINER_TYPE_FUNCTION
        server.add(function)
        server.add(pb.ContainerDescription())
        server.command()
        await server.until(lambda: server.acks[-1:] == [3])
        await server.until(lambda: server.terminated())
        expected = pb.CONTAINER_TERMINATION_REASON_STARTUP_FAILED_INTERNAL_ERROR
        assert server.terminated() == {"f1": expected}


async def test_work_that_is_not_offered_is_answered(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        wanted = pb.SnapshotContainer(container_id="c", snapshot_id="n", upload_uri="file:///x")
        server.command(snapshot_container=wanted)
        allocation = pb.Allocation(allocation_id="a1", container_id="c", request_id="r")
        server.command(run_allocation=pb.RunAllocation(allocation=allocation))
        await server.until(lambda: [b for b in server.beats if b.allocation_outcomes])
        failed = next(r.snapshot_failed for r in server.responses if r.HasField("snapshot_failed"))
        assert failed.error_message == "snapshots not configured on this dataplane"
        outcome = next(o for b in server.beats for o in b.allocation_outcomes)
        assert (outcome.failed.allocation_id, outcome.failed.request_id) == ("a1", "r")


async def test_more_than_the_host_has_is_refused_with_the_resource(start_worker) -> None:
    overrides = {"cpu_count": 1, "memory_bytes": 1 << 30}
    async with (
        scripted_server(speaks_longshore=True) as server,
        start_worker(server.port, resource_overrides=overrides),
    ):
        await server.until(lambda: server.registered)
        large = sandbox("s1")
        large.resources.memory_bytes = 2 << 30
        server.add(large)
        await server.until(lambda: server.terminated())
        detail = next(d for b in server.beats for d in b.longshore.containers if d.error_code)
        assert detail.error_code == "CAPACITY_EXHAUSTED"
        assert "memory_bytes: requested 2147483648, available 1073741824" in detail.error_message


async def test_a_timeout_ends_a_sandbox_as_a_timeout(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        server.add(sandbox("s1", timeout_secs=1))
        await server.until(lambda: server.terminated())
        assert server.terminated() == {"s1": pb.CONTAINER_TERMINATION_REASON_FUNCTION_TIMEOUT}


async def test_a_claim_is_reported_and_starts_the_clock(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        warm = sandbox("c1")
        warm.pool_id = "p"
        warm.sandbox_metadata.ClearField("sandbox_id")
        server.add(warm)
        await server.until(lambda: server.started() == ["c1"])
        metadata = pb.SandboxMetadata(image="i", sandbox_id="s9", timeout_secs=1)
        server.command(
            update_container_description=pb.UpdateContainerDescription(
                container_id="c1", sandbox_metadata=metadata
            )
        )
        await server.until(lambda: server.started() == ["c1", "c1"])
        await server.until(lambda: server.terminated())


async def test_a_server_that_forgot_us_gets_full_state_and_counts_from_one(
    start_worker,
) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        server.add(sandbox("s1"))
        await server.until(lambda: server.started())
        await server.until(lambda: server.acks[-1:] == [1])
        server.registered = False
        await server.until(lambda: server.registered)
        states = server.beats[-1].full_state.container_states
        assert [(s.description.id, s.status) for s in states] == [
            ("s1", pb.CONTAINER_STATUS_RUNNING)
        ]
        server.add(sandbox("s2"))
        await server.until(lambda: "s2" in server.started())
        await server.until(lambda: server.acks[-1:] == [1])


async def test_a_failed_full_state_still_resets_the_sequences(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        for name in ("a", "b", "c"):
            server.add(sandbox(name))
        await server.until(lambda: server.acks[-1:] == [3])
        failed: list[bool] = []

        def lose_one(beat: pb.HeartbeatRequest) -> grpc.StatusCode | None:
            if beat.HasField("full_state") and not failed:
                failed.append(True)
                return grpc.StatusCode.UNAVAILABLE
            return None

        server.bend_heartbeat = lose_one
        server.registered = False
        await server.until(lambda: server.registered)
        server.add(sandbox("d"))
        await server.until(lambda: "d" in server.started())


async def test_descriptions_are_echoed_with_fields_that_nobody_here_knows(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        description = sandbox("s1")
        description.MergeFromString(bytes([0xFA, 0x3F, 0x03]) + b"new")  # field 1023
        server.add(description)
        await server.until(lambda: server.started())
        server.registered = False
        await server.until(lambda: server.registered)
        (state,) = server.beats[-1].full_state.container_states
        assert b"new" in state.description.SerializeToString()
        assert state.description == description


async def test_the_extension_is_sent_only_to_a_peer_that_advertised_it(start_worker) -> None:
    for speaks in (False, True):
        async with scripted_server(speaks_longshore=speaks) as server, start_worker(server.port):
            await server.until(lambda server=server: server.registered)
            server.add(sandbox("s1"))
            await server.until(lambda server=server: server.started())
            extended = [beat for beat in server.beats if beat.HasField("longshore")]
            assert bool(extended) is speaks
            assert not server.beats[0].HasField("longshore")
            server.remove("s1")
            await server.until(lambda server=server: server.terminated())


async def test_a_stop_that_keeps_containers_does_not_deregister(start_worker) -> None:
    async with scripted_server() as server:
        async with start_worker(server.port, on_exit="keep") as stop:
            await server.until(lambda: server.registered)
            stop.set()
        assert all(beat.status == pb.EXECUTOR_STATUS_RUNNING for beat in server.beats)


async def test_a_stop_that_removes_reports_each_end_and_deregisters_last(start_worker) -> None:
    async with scripted_server() as server:
        async with start_worker(server.port, on_exit="remove") as stop:
            await server.until(lambda: server.registered)
            server.add(sandbox("s1"))
            await server.until(lambda: server.started())
            stop.set()
        assert list(server.terminated()) == ["s1"]
        assert server.beats[-1].status == pb.EXECUTOR_STATUS_STOPPED
        assert not server.beats[-1].command_responses


async def test_an_absent_server_is_waited_for(start_worker) -> None:
    async with scripted_server() as probe:
        port = probe.port
    async with start_worker(port), scripted_server(port) as server:
        await server.until(lambda: server.registered)
        assert isinstance(server, ScriptedServer)


async def test_after_a_restart_full_state_is_not_waited_for(start_worker) -> None:
    async with scripted_server() as server:
        async with start_worker(server.port):
            await server.until(lambda: server.registered)
            for name in ("a", "b"):
                server.add(sandbox(name))
            await server.until(lambda: server.acks[-1:] == [2])
        beats = len(server.beats)

        def regressed(_beat: pb.HeartbeatRequest) -> None:
            # As the field's server does, once it has seen an acknowledgement go back.
            if server.acks[-1] is None:
                server.registered = False

        server.bend_heartbeat = regressed
        server.add(sandbox("c"))
        began = fair_time()
        async with start_worker(server.port):
            await server.until(
                lambda: server.beats[beats:] and server.beats[-1].full_state.hostname
            )
            assert fair_time() - began < 4, "it came with the next regular heartbeat"


async def test_an_update_does_not_bring_back_what_has_ended(start_worker) -> None:
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)

        def keep_ends(beat: pb.HeartbeatRequest) -> grpc.StatusCode | None:
            ended = any(item.HasField("container_terminated") for item in beat.command_responses)
            return grpc.StatusCode.UNAVAILABLE if ended and not done else None

        done: list[bool] = []
        server.bend_heartbeat = keep_ends
        server.add(sandbox("s1"))
        await server.until(lambda: server.started())
        server.remove("s1")
        update = pb.UpdateContainerDescription(
            container_id="s1", sandbox_metadata=pb.SandboxMetadata(image="i", sandbox_id="s2")
        )
        seq = server.command(update_container_description=update)
        await server.until(lambda: server.acks[-1:] == [seq])
        done.append(True)
        await server.until(lambda: server.terminated())
        assert server.started() == ["s1"]


async def test_a_server_that_forgot_us_between_two_fragments_gets_what_it_dropped(
    start_worker, monkeypatch
) -> None:
    monkeypatch.setattr(link, "FRAGMENT_BYTES", 1)
    async with scripted_server() as server, start_worker(server.port):
        await server.until(lambda: server.registered)
        dropped: list[pb.HeartbeatRequest] = []

        def forget(beat: pb.HeartbeatRequest) -> None:
            if len(beat.command_responses) and "s1" in server.started() and not dropped:
                dropped.append(beat)
                server.registered = False

        server.bend_heartbeat = forget
        server.add(sandbox("s1"))
        server.add(sandbox("s2"))
        server.add(sandbox("s3"))
        await server.until(lambda: dropped and server.registered)
        kept = [beat for beat in server.beats if beat is not dropped[0]]
        ids = {r.container_started.container_id for b in kept for r in b.command_responses}
        assert {r.container_started.container_id for r in dropped[0].command_responses} <= ids


async def test_a_server_that_always_wants_full_state_is_not_stormed(start_worker) -> None:
    async with scripted_server() as server:
        server.forgetful = True
        async with start_worker(server.port):
            await server.until(lambda: len(server.beats) >= 3)
            await anyio.sleep(0.5)
            assert len(server.beats) <= 4


async def test_a_worker_that_is_not_up_yet_can_be_stopped(
    start_worker, tmp_path, monkeypatch
) -> None:
    asked = anyio.Event()

    async def never(_self) -> None:
        asked.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(NullDriver, "survey", never)
    stop = anyio.Event()

    async def stopped() -> str:
        await stop.wait()
        return "the test"

    settings = WorkerSettings.model_validate({
        "driver": {"type": "null"},
        "guest": {"type": "bare"},
        "state_dir": str(tmp_path / "state"),
        "monitoring": {"port": 0, "listen_addr": "127.0.0.1"},
    })  # fmt: skip
    async with anyio.create_task_group() as tasks:
        run = WorkerRun(settings=settings, stop=stopped, with_proxy=False)
        tasks.start_soon(run_worker, run)
        await asked.wait()
        with anyio.fail_after(5):
            stop.set()
