"""The process: how it starts, refuses to start, stops, and what it keeps when it is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import anyio
import grpc.aio
import httpx
import pytest
import trustme
from longshore_proto import executor_api_pb2 as pb
from longshore_proto import executor_api_pb2_grpc as pb_grpc

from tests.machine import fair_time

COMMAND = [sys.executable, "-c", "from longshore_server.command import server; server()"]


@asynccontextmanager
async def running(document, tmp_path):
    """The server as a process; yields it, and where it listens."""
    file = tmp_path / "server.yaml"
    file.write_text(json.dumps({"env": "test", **document()}))
    process = await anyio.open_process([*COMMAND, "--config", str(file)], stderr=None)
    try:
        with anyio.fail_after(20):
            received = b""
            while b"Server is ready" not in received:
                received += await process.stdout.receive()
        fields = json.loads(received.splitlines()[-1])["fields"]
        yield process, f"http://{fields['http']}", fields["grpc"]
    finally:
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                process.kill()
            await process.aclose()


def run(document, tmp_path):
    file = tmp_path / "server.yaml"
    file.write_text(json.dumps(document))
    return subprocess.run(
        [*COMMAND, "--config", str(file)], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("key", ["listen_addr", "listen_addr_grpc"])
def test_a_port_in_use_is_one_line_and_no_traceback(document, tmp_path, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run(document(**{key: address}), tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        f"error: {key}: {address} is already in use;"
        " stop the other process or choose another port\n"
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"listen_adr": "x"}, "listen_adr: Extra inputs are not permitted; did you mean"),
        ({"listen_addr": "x"}, "listen_addr: 'x' is not host:port (got 'x')"),
        ({"listen_addr": "192.0.2.1:1"}, "listen_addr: cannot listen on 192.0.2.1:1: "),
        ({"blob_storage": {"path": "s3://b"}}, "blob_storage.path: must be file://"),
        ({"tls": {"enabled": True}}, "tls: TLS needs both cert_path and key_path"),
        (
            {"tls": {"enabled": True, "cert_path": "/none", "key_path": "/none"}},
            "tls.key_path: cannot read /none: No such file or directory",
        ),
        ({"state_store_path": "postgresql://x"}, "state_store_path: 'postgresql://x' is neither"),
        ({"state_store_path": "/proc/none"}, "state_store_path: cannot make /proc/none: "),
    ],
)
def test_a_wrong_configuration_names_the_key(document, tmp_path, keys, message):
    result = run(document(**keys), tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


async def test_it_stops_promptly_though_callers_wait(document, tmp_path):
    async with running(document, tmp_path) as (process, url, grpc_address):
        answers = []
        async with (
            httpx.AsyncClient(base_url=url, timeout=20) as client,
            grpc.aio.insecure_channel(grpc_address) as channel,
            anyio.create_task_group() as tasks,
        ):
            stub = pb_grpc.ExecutorAPIStub(channel)
            full = pb.DataplaneStateFullSync(hostname="h")
            await stub.heartbeat(pb.HeartbeatRequest(executor_id="e", full_state=full))

            async def wait():
                answers.append(await client.post("/sandboxes", json={"wait": True}))

            async def poll():
                await stub.poll_commands(pb.PollCommandsRequest(executor_id="e"))
                answers.append("poll")

            for one in (wait, wait, poll):
                tasks.start_soon(one)
            found = []
            with anyio.fail_after(10):
                while len(found) < 2:
                    found = (await client.get("/sandboxes")).json()["sandboxes"]
            started = fair_time()
            process.send_signal(signal.SIGTERM)
            with anyio.fail_after(10):
                assert await process.wait() == 0
            assert fair_time() - started < 2
        answers.remove("poll")
        assert [(one.status_code, one.json()["code"]) for one in answers] == [
            (503, "SHUTTING_DOWN")
        ] * 2


async def test_it_stops_when_its_supervisor_is_gone(document, tmp_path):
    file = tmp_path / "server.yaml"
    file.write_text(json.dumps(document()))
    command = [*COMMAND, "--config", str(file), "--until-stdin-closes"]
    async with await anyio.open_process(command) as process:
        with anyio.fail_after(20):
            received = b""
            while b"Server is ready" not in received:
                received += await process.stdout.receive()
            await process.stdin.aclose()
            assert await process.wait() == 0


async def test_nothing_that_was_acknowledged_is_lost_when_it_is_killed(document, tmp_path):
    acknowledged, deleted, running_ones = [], [], []

    async def traffic(client):
        with suppress(httpx.TransportError):
            while True:
                created = (await client.post("/sandboxes", json={})).json()
                acknowledged.append(created["sandbox_id"])
                if len(acknowledged) % 3 == 0:
                    response = await client.delete(f"/sandboxes/{created['sandbox_id']}")
                    if response.status_code == 200:
                        deleted.append(created["sandbox_id"])

    async def work(stub, known):
        acked = None
        with suppress(grpc.aio.AioRpcError):
            while True:
                reply = await stub.poll_commands(
                    pb.PollCommandsRequest(executor_id="e", acked_command_seq=acked)
                )
                acked = reply.commands[-1].seq
                for one in reply.commands:
                    if one.HasField("add_container"):
                        container = one.add_container.container
                        known[container.id] = container
                        started = pb.ContainerStarted(container_id=container.id)
                        report = pb.CommandResponse(container_started=started)
                        await stub.heartbeat(
                            pb.HeartbeatRequest(executor_id="e", command_responses=[report])
                        )
                        running_ones.append(container.id)

    resources = pb.HostResources(cpu_count=10**6, memory_bytes=2**60, disk_bytes=2**60)
    full = pb.DataplaneStateFullSync(hostname="h", total_container_resources=resources)
    known = {}
    async with (
        running(document, tmp_path) as (process, url, grpc_address),
        httpx.AsyncClient(base_url=url, timeout=10) as client,
        grpc.aio.insecure_channel(grpc_address) as channel,
    ):
        stub = pb_grpc.ExecutorAPIStub(channel)
        await stub.heartbeat(pb.HeartbeatRequest(executor_id="e", full_state=full))
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(traffic, client)
            tasks.start_soon(work, stub, known)
            with anyio.fail_after(20):
                while len(acknowledged) < 150 or len(running_ones) < 20:
                    await anyio.sleep(0)
            os.kill(process.pid, signal.SIGKILL)
    assert len(deleted) > 10
    async with (
        running(document, tmp_path) as (_process, url, grpc_address),
        httpx.AsyncClient(base_url=url, timeout=10) as client,
        grpc.aio.insecure_channel(grpc_address) as channel,
    ):
        stub = pb_grpc.ExecutorAPIStub(channel)
        found = {one: (await client.get(f"/sandboxes/{one}")).json() for one in acknowledged}
        assert {found[one]["status"] for one in deleted} == {"terminated"}
        ended = {one for one, shown in found.items() if shown["status"] == "terminated"}
        assert {found[one]["status"] for one in running_ones if one not in ended} == {"running"}
        with pytest.raises(grpc.aio.AioRpcError, match="not registered"):
            await stub.poll_commands(pb.PollCommandsRequest(executor_id="e"))
        assert (await stub.heartbeat(pb.HeartbeatRequest(executor_id="e"))).send_state
        # The worker lost nothing; so neither may the sandboxes, nor may the deleted ones go on.
        full.container_states.extend(
            pb.ContainerState(description=one, status=pb.CONTAINER_STATUS_RUNNING)
            for one in known.values()
        )
        await stub.heartbeat(pb.HeartbeatRequest(executor_id="e", full_state=full))
        reply = await stub.poll_commands(pb.PollCommandsRequest(executor_id="e"))
        added = {
            one.add_container.container.id
            for one in reply.commands
            if one.HasField("add_container")
        }
        removed = {
            one.remove_container.container_id
            for one in reply.commands
            if one.HasField("remove_container")
        }
        assert {*acknowledged} - ended - known.keys() <= added
        assert removed == ended & known.keys()
        for one in set(acknowledged) - ended:
            wanted = "running" if one in known else "pending"
            assert (await client.get(f"/sandboxes/{one}")).json()["status"] == wanted


async def test_executors_need_a_certificate_when_a_client_ca_is_given(serve_here, tmp_path):
    ours, theirs = trustme.CA(), trustme.CA()
    certificate = ours.issue_cert("localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}
    certificate.cert_chain_pems[0].write_to_path(paths["cert"])
    certificate.private_key_pem.write_to_path(paths["key"])
    ours.cert_pem.write_to_path(paths["ca"])
    tls = {
        "enabled": True,
        "cert_path": paths["cert"],
        "key_path": paths["key"],
        "client_ca_path": paths["ca"],
    }

    async def beat(server, issuer):
        shown = issuer.issue_cert("worker") if issuer else None
        credentials = grpc.ssl_channel_credentials(
            ours.cert_pem.bytes(),
            shown and shown.private_key_pem.bytes(),
            shown and shown.cert_chain_pems[0].bytes(),
        )
        address = re.sub(r"^127\.0\.0\.1", "localhost", server.grpc)
        async with grpc.aio.secure_channel(address, credentials) as channel:
            stub = pb_grpc.ExecutorAPIStub(channel)
            return await stub.heartbeat(pb.HeartbeatRequest(executor_id="e"), timeout=5)

    async with serve_here(tls=tls) as server:
        assert (await beat(server, ours)).send_state
        for issuer in (None, theirs):
            with pytest.raises(grpc.aio.AioRpcError):
                await beat(server, issuer)
