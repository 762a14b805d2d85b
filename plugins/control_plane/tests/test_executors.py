"""What workers are promised on the wire."""

from __future__ import annotations

import anyio
import grpc
import pytest
from longshore_proto import executor_api_pb2 as pb


async def test_an_unknown_executor_is_asked_for_its_full_state(server):
    response = await server.worker().heartbeat()
    assert response.send_state


async def test_a_full_state_registers_and_is_not_asked_for_again(server):
    worker = server.worker()
    assert not (await worker.register()).send_state
    assert not (await worker.heartbeat()).send_state
    (executor,) = (await server.http.get("/internal/executors")).json()
    assert executor["id"] == "worker-1"
    assert executor["addr"] == "127.0.0.1:8095"
    assert executor["free_resources"]["cpu_ms_per_sec"] == 8000
    assert executor["ready_for_teardown"]


@pytest.mark.parametrize("method", ["heartbeat", "poll_commands", "poll_allocation_results"])
async def test_a_call_without_an_executor_id_is_invalid(server, method):
    messages = {
        "heartbeat": pb.HeartbeatRequest(),
        "poll_commands": pb.PollCommandsRequest(),
        "poll_allocation_results": pb.PollAllocationResultsRequest(),
    }
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(server.worker().stub, method)(messages[method], timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["poll_commands", "poll_allocation_results"])
async def test_a_poll_of_an_unknown_executor_is_not_found(server, method):
    request = {
        "poll_commands": pb.PollCommandsRequest(executor_id="x"),
        "poll_allocation_results": pb.PollAllocationResultsRequest(executor_id="x"),
    }[method]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(server.worker().stub, method)(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "executor not registered"


async def test_a_command_says_all_of_the_sandbox(server):
    worker = server.worker()
    await worker.register()
    created = await server.create(
        "/v1/namespaces/team/sandboxes",
        image="busybox",
        resources={"cpus": 0.5, "memory_mb": 64, "disk_mb": 10},
        timeout_secs=7,
        entrypoint=["sh", "-c", "true"],
        secret_names=["KEY"],
        network={"allow_internet_access": False, "allow_out": ["10.0.0.0/8"]},
    )
    (command,) = await worker.poll()
    identity = created["sandbox_id"]
    assert command == pb.Command(
        seq=1,
        add_container=pb.AddContainer(
            container=pb.ContainerDescription(
                id=identity,
                function=pb.FunctionRef(
                    namespace="team",
                    application_name="",
                    function_name=identity,
                    application_version="",
                ),
                secret_names=["KEY"],
                initialization_timeout_ms=7000,
                allocation_timeout_ms=7000,
                resources=pb.ContainerResources(
                    cpu_ms_per_sec=500, memory_bytes=64 * 2**20, disk_bytes=10 * 2**20
                ),
                max_concurrency=1,
                container_type=pb.CONTAINER_TYPE_SANDBOX,
                sandbox_metadata=pb.SandboxMetadata(
                    image="busybox",
                    timeout_secs=7,
                    entrypoint=["sh", "-c", "true"],
                    network_policy=pb.NetworkPolicy(
                        allow_internet_access=False, allow_out=["10.0.0.0/8"]
                    ),
                    sandbox_id=identity,
                ),
            )
        ),
    )


async def test_a_sandbox_that_never_times_out_has_no_timeout_on_the_wire(server):
    worker = server.worker()
    await worker.register()
    await server.create(timeout_secs=0)
    (container,) = await worker.added()
    assert not container.sandbox_metadata.HasField("timeout_secs")


async def test_commands_come_again_until_they_are_acknowledged(server):
    worker = server.worker()
    await worker.register()
    await server.create()
    first = await worker.poll(ack=False)
    assert await worker.poll(ack=False) == first
    worker.acked = first[-1].seq
    await server.create()
    (second,) = await worker.poll()
    assert second.seq == 2


async def test_a_poll_waits_for_a_command(server):
    worker = server.worker()
    await worker.register()
    received = []

    async def poll():
        received.extend(await worker.poll())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poll)
        await server.create()
    assert len(received) == 1


async def test_a_poll_without_news_ends_empty(serve_here):
    async with serve_here(long_poll_secs=0.05) as server:
        worker = server.worker()
        await worker.register()
        assert await worker.poll() == []
        request = pb.PollAllocationResultsRequest(executor_id=worker.id)
        assert not (await worker.stub.poll_allocation_results(request, timeout=5)).results


async def test_an_acknowledgement_that_goes_back_asks_for_the_full_state_once(server):
    worker = server.worker()
    await worker.register()
    await server.create()
    await worker.poll()
    await server.create()
    await worker.poll()
    worker.acked = None
    await server.create()
    assert [one.seq for one in await worker.poll()] == [2, 3]
    assert (await worker.heartbeat()).send_state
    assert not (await worker.heartbeat()).send_state


async def test_a_full_state_numbers_commands_from_one_and_repeats_what_was_not_taken(server):
    worker = server.worker()
    await worker.register()
    first, second = await server.create(), await server.create()
    assert [one.seq for one in await worker.poll(ack=False)] == [1, 2]
    await worker.register()
    commands = await worker.poll()
    assert [one.seq for one in commands] == [1, 2]
    assert {one.add_container.container.id for one in commands} == {first["id"], second["id"]}


async def test_a_late_acknowledgement_of_old_numbers_drops_nothing(server):
    worker = server.worker()
    await worker.register()
    for _ in range(3):
        await server.create()
    await worker.poll()
    await worker.register()
    worker.acked = 3
    assert len(await worker.poll(ack=False)) == 3


async def test_a_worker_that_restarts_keeps_its_sandboxes(server, reported):
    worker = server.worker()
    await worker.register()
    created = await server.create()
    (container,) = await worker.added()
    await worker.started(container.id)
    again = server.worker()
    await again.register([reported(container)])
    assert (await server.look(created["id"]))["status"] == "running"
    await server.create()
    (command,) = await again.poll()
    assert command.add_container.container.id != container.id


async def test_a_running_sandbox_that_its_worker_lost_is_terminated(server):
    worker = server.worker()
    await worker.register()
    created = await server.create()
    await worker.started((await worker.added())[0].id)
    await worker.register()
    after = await server.look(created["id"])
    assert after["outcome"] == "Failure(ContainerTerminated(Unknown))"


async def test_a_full_state_can_bring_a_sandbox_to_run_or_to_its_end(server, reported):
    worker = server.worker()
    await worker.register()
    first, second = await server.create(), await server.create()
    one, two = await worker.added()
    await worker.register([reported(one), reported(two, "TERMINATED", "OOM")])
    assert (await server.look(first["id"]))["status"] == "running"
    assert (await server.look(second["id"]))["outcome"] == "Failure(ContainerTerminated(Oom))"


async def test_an_orphan_is_removed(server, reported):
    worker = server.worker()
    orphan = pb.ContainerDescription(
        id="stray", resources=pb.ContainerResources(cpu_ms_per_sec=8000)
    )
    await worker.register([reported(orphan)])
    (command,) = await worker.poll()
    assert command.remove_container.container_id == "stray"
    (executor,) = (await server.http.get("/internal/executors")).json()
    assert executor["free_resources"]["cpu_ms_per_sec"] == 0
    assert not executor["ready_for_teardown"]
    await worker.ended("stray")
    (executor,) = (await server.http.get("/internal/executors")).json()
    assert executor["free_resources"]["cpu_ms_per_sec"] == 8000


async def test_a_container_of_a_waiting_sandbox_is_adopted(server, reported):
    created = await server.create()
    container = pb.ContainerDescription(
        id=created["id"], sandbox_metadata=pb.SandboxMetadata(sandbox_id=created["id"])
    )
    await server.worker().register([reported(container)])
    after = await server.look(created["id"])
    assert (after["status"], after["executor_id"]) == ("running", "worker-1")


async def test_reports_of_an_unknown_executor_are_asked_for_again_and_not_applied(
    serve_here, reported
):
    async with serve_here() as server:
        worker = server.worker()
        await worker.register()
        created = await server.create()
        (container,) = await worker.added()
        await worker.started(container.id)
    async with serve_here() as server:
        worker = server.worker()
        assert (await worker.ended(container.id)).send_state
        assert (await server.look(created["id"]))["status"] == "running"
        await worker.register([reported(container)])
        await worker.ended(container.id)
        assert (await server.look(created["id"]))["status"] == "terminated"


async def test_a_full_state_and_reports_can_come_together(server, reported):
    worker = server.worker()
    await worker.register()
    created = await server.create()
    (container,) = await worker.added()
    response = pb.CommandResponse(container_started=pb.ContainerStarted(container_id=container.id))
    await worker.register([reported(container, "PENDING")], command_responses=[response])
    assert (await server.look(created["id"]))["status"] == "running"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("FUNCTION_TIMEOUT", "Success(Timeout)"),
        ("OOM", "Failure(ContainerTerminated(Oom))"),
        ("STARTUP_FAILED_BAD_IMAGE", "Failure(ContainerTerminated(StartupFailedBadImage))"),
        ("UNKNOWN", "Failure(ContainerTerminated(Unknown))"),
    ],
)
async def test_the_reason_of_a_container_becomes_the_outcome(server, reason, outcome):
    worker = server.worker()
    await worker.register()
    created = await server.create()
    (container,) = await worker.added()
    await worker.ended(container.id, reason)
    after = await server.look(created["id"])
    assert (after["status"], after["outcome"]) == ("terminated", outcome)


async def test_malformed_reports_are_skipped_and_the_rest_is_applied(server):
    worker = server.worker()
    await worker.register()
    created = await server.create()
    (container,) = await worker.added()
    reports = [
        pb.CommandResponse(),
        pb.CommandResponse(container_started=pb.ContainerStarted()),
        pb.CommandResponse(container_started=pb.ContainerStarted(container_id="nobody")),
        pb.CommandResponse(container_started=pb.ContainerStarted(container_id=container.id)),
    ]
    await worker.heartbeat(command_responses=reports)
    assert (await server.look(created["id"]))["status"] == "running"


async def test_a_stopped_executor_is_gone_at_once(server):
    worker = server.worker()
    await worker.register()
    created = await server.create()
    response = await worker.heartbeat(status=pb.EXECUTOR_STATUS_STOPPED)
    assert not response.send_state
    assert (await server.look(created["id"]))["outcome"] == "Failure(ExecutorRemoved)"
    assert (await server.http.get("/internal/executors")).json() == []
    with pytest.raises(grpc.aio.AioRpcError, match="not registered"):
        await worker.poll()


async def test_a_drained_executor_gets_nothing_new_until_it_runs_again(server):
    worker = server.worker()
    await worker.register()
    await worker.heartbeat(status=pb.EXECUTOR_STATUS_DRAINED)
    created = await server.create()
    assert created["pending_reason"] == "no_executors_available"
    await worker.heartbeat(status=pb.EXECUTOR_STATUS_RUNNING)
    (container,) = await worker.added()
    assert container.id == created["id"]


async def test_a_silent_executor_takes_its_sandboxes_with_it(serve_here):
    async with serve_here(executor_timeout_secs=0.2) as server:
        await server.worker().register()
        response = await server.http.post("/sandboxes", json={"wait": True})
        assert response.status_code == 500
        assert response.json()["code"] == "SANDBOX_FAILED"
        assert "Failure(ExecutorRemoved)" in response.json()["message"]


async def test_an_executor_that_does_not_come_back_after_a_restart_is_given_up(serve_here):
    async with serve_here() as server:
        worker = server.worker()
        await worker.register()
        created = await server.create()
        # Placed, and not running: so that a second request can wait for what becomes of it.
        (container,) = await worker.added()
        assert container.id == created["id"]
    async with serve_here(startup_sweep_secs=0.2) as server:
        watcher = server.worker("worker-2")
        await watcher.register()
        with anyio.fail_after(5):
            while (await server.look(created["id"]))["status"] != "terminated":
                await watcher.heartbeat()
        assert (await server.look(created["id"]))["outcome"] == "Failure(ExecutorRemoved)"


async def test_longshore_speaks_its_extension_only_to_a_peer_that_does(server):
    plain, ours = server.worker("plain"), server.worker("ours")
    ours.metadata = (("longshore-protocol", "1"),)
    for worker, spoken in ((plain, False), (ours, True)):
        call = worker.stub.heartbeat(
            pb.HeartbeatRequest(executor_id=worker.id), metadata=worker.metadata, timeout=5
        )
        response = await call
        metadata = dict(await call.initial_metadata())
        assert (metadata.get("longshore-protocol") == "1") is spoken
        assert response.HasField("longshore") is spoken


async def test_the_extension_tells_of_images_errors_and_exit_codes(server):
    worker = server.worker(metadata=(("longshore-protocol", "1"),))
    await worker.register()
    created = await server.create()
    (container,) = await worker.added()
    detail = pb.ContainerDetail(container_id=container.id, image_applied=False)
    await worker.started(container.id, longshore=pb.WorkerExtension(containers=[detail]))
    assert (await server.look(created["id"]))["image_applied"] is False
    detail = pb.ContainerDetail(
        container_id=container.id, error_message="it fell", error_code="FELL", exit_code=0
    )
    await worker.ended(container.id, longshore=pb.WorkerExtension(containers=[detail]))
    after = await server.look(created["id"])
    assert after["error_details"] == {"message": "it fell", "code": "FELL"}
    assert (after["exit_code"], after["image_applied"]) == (0, False)


async def test_the_extension_of_a_peer_that_did_not_announce_it_is_ignored(server):
    worker = server.worker()
    await worker.register()
    created = await server.create()
    (container,) = await worker.added()
    detail = pb.ContainerDetail(container_id=container.id, image_applied=False)
    await worker.started(container.id, longshore=pb.WorkerExtension(containers=[detail]))
    assert "image_applied" not in await server.look(created["id"])


async def test_room_is_kept_until_the_worker_says_that_the_container_is_gone(server):
    worker = server.worker(cpus=1)
    await worker.register()
    first = await server.create()
    second = await server.create()
    assert second["pending_reason"] == "no_resources_available"
    await server.http.delete(f"/sandboxes/{first['id']}")
    assert (await server.look(second["id"]))["pending_reason"] == "no_resources_available"
    add, remove = await worker.poll()
    assert remove.remove_container.container_id == add.add_container.container.id == first["id"]
    await worker.ended(first["id"])
    (container,) = await worker.added()
    assert container.id == second["id"]


async def test_an_allow_list_keeps_other_namespaces_away(server):
    await server.worker(namespaces=("team",)).register()
    other = await server.create()
    mine = await server.create("/v1/namespaces/team/sandboxes")
    assert other["pending_reason"] == "no_executors_available"
    assert mine["pending_reason"] == "waiting_for_container"


async def test_a_gpu_is_found_where_it_is(server):
    await server.worker("plain").register()
    await server.worker("gpu", gpu=(2, pb.GPU_MODEL_NVIDIA_A10)).register()
    wish = {"gpus": [{"count": 2, "model": "A10"}]}
    created = await server.create(resources=wish)
    assert created["executor_id"] == "gpu"
    again = await server.create(resources=wish)
    assert again["pending_reason"] == "no_resources_available"


async def test_waiting_sandboxes_are_placed_when_an_executor_joins_the_oldest_first(server):
    created = [await server.create() for _ in range(3)]
    assert {one["pending_reason"] for one in created} == {"no_executors_available"}
    worker = server.worker(cpus=2)
    await worker.register()
    assert [one.id for one in await worker.added()] == [one["id"] for one in created[:2]]
    assert (await server.look(created[2]["id"]))["pending_reason"] == "no_resources_available"
