"""What the tests share: a server on ports of its own, and a worker that knows only the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import grpc.aio
import httpx
import pytest
from longshore_proto import executor_api_pb2 as pb
from longshore_proto import executor_api_pb2_grpc as pb_grpc
from longshore_server.app import serve
from longshore_server.settings import ServerSettings

from tests.loops import ASYNCIO, Backend

GIB = 1024**3
SECONDS = 10


@pytest.fixture(scope="session")
def anyio_backend() -> Backend:
    return ASYNCIO  # grpc.aio and uvicorn know no other


@dataclass(slots=True)
class FakeWorker:
    """A worker as the wire sees it: it does nothing by itself, and knows what it acknowledged."""

    stub: Any
    id: str = "worker-1"
    metadata: tuple[tuple[str, str], ...] = ()
    acked: int | None = None
    proxy_address: str = "127.0.0.1:8095"
    cpus: int = 8
    memory: int = 16 * GIB
    namespaces: tuple[str, ...] = ()
    gpu: tuple[int, int] | None = None

    async def heartbeat(self, **fields: Any) -> pb.HeartbeatResponse:
        request = pb.HeartbeatRequest(executor_id=self.id, **fields)
        return await self.stub.heartbeat(request, timeout=SECONDS, metadata=self.metadata)

    async def register(
        self, containers: Iterable[pb.ContainerState] = (), **fields: Any
    ) -> pb.HeartbeatResponse:
        """Send a full state; as the wire has it, commands then count from 1."""
        response = await self.heartbeat(full_state=self.full_state(containers), **fields)
        self.acked = None
        return response

    def full_state(self, containers: Iterable[pb.ContainerState] = ()) -> pb.DataplaneStateFullSync:
        resources = pb.HostResources(
            cpu_count=self.cpus, memory_bytes=self.memory, disk_bytes=100 * GIB
        )
        if self.gpu is not None:
            resources.gpu.CopyFrom(pb.GPUResources(count=self.gpu[0], model=self.gpu[1]))
        return pb.DataplaneStateFullSync(
            hostname="host-1",
            version="0.1.0",
            total_resources=resources,
            total_container_resources=resources,
            allowed_functions=[pb.AllowedFunction(namespace=one) for one in self.namespaces],
            proxy_address=self.proxy_address,
            container_states=containers,
        )

    async def poll(self, *, ack: bool = True) -> list[pb.Command]:
        """The commands that wait; `ack`: the next poll says that these are taken."""
        request = pb.PollCommandsRequest(executor_id=self.id, acked_command_seq=self.acked)
        reply = await self.stub.poll_commands(request, timeout=SECONDS, metadata=self.metadata)
        if ack and reply.commands:
            self.acked = reply.commands[-1].seq
        return list(reply.commands)

    async def added(self) -> list[pb.ContainerDescription]:
        """The containers that the next commands add."""
        commands = await self.poll()
        return [one.add_container.container for one in commands if one.HasField("add_container")]

    async def started(self, *containers: str, **fields: Any) -> pb.HeartbeatResponse:
        reports = [
            pb.CommandResponse(container_started=pb.ContainerStarted(container_id=one))
            for one in containers
        ]
        return await self.heartbeat(command_responses=reports, **fields)

    async def ended(
        self, container: str, reason: str = "PROCESS_CRASH", **fields: Any
    ) -> pb.HeartbeatResponse:
        number = pb.ContainerTerminationReason.Value(f"CONTAINER_TERMINATION_REASON_{reason}")
        ended = pb.ContainerTerminated(container_id=container, reason=number)
        return await self.heartbeat(
            command_responses=[pb.CommandResponse(container_terminated=ended)], **fields
        )

    async def serve_containers(self) -> None:
        """Start whatever is asked for and end whatever is not wanted, until cancelled."""
        while True:
            for command in await self.poll():
                if command.HasField("add_container"):
                    await self.started(command.add_container.container.id)
                else:
                    await self.ended(command.remove_container.container_id, "FUNCTION_CANCELLED")


def state_of(
    container: pb.ContainerDescription, status: str = "RUNNING", reason: str | None = None
) -> pb.ContainerState:
    """A container as a full state lists it."""
    number = reason and pb.ContainerTerminationReason.Value(
        f"CONTAINER_TERMINATION_REASON_{reason}"
    )
    return pb.ContainerState(
        description=container,
        status=pb.ContainerStatus.Value(f"CONTAINER_STATUS_{status}"),
        termination_reason=number,
    )


@dataclass(slots=True)
class Served:
    """A running server, and how to reach it."""

    http: httpx.AsyncClient
    grpc: str
    channel: Any
    settings: ServerSettings
    scope: anyio.CancelScope
    workers: dict[str, FakeWorker] = field(default_factory=dict)

    def worker(self, name: str = "worker-1", **fields: Any) -> FakeWorker:
        return FakeWorker(stub=pb_grpc.ExecutorAPIStub(self.channel), id=name, **fields)

    async def create(self, path: str = "/sandboxes", **body: Any) -> dict[str, Any]:
        response = await self.http.post(path, json=body)
        assert response.status_code == 200, response.text
        created = response.json()
        # As every other answer has it.
        return {**created, "id": created["sandbox_id"]}

    async def look(self, sandbox_id: str) -> dict[str, Any]:
        response = await self.http.get(f"/sandboxes/{sandbox_id}")
        assert response.status_code == 200, response.text
        return response.json()


ServeHere = Callable[..., AbstractAsyncContextManager[Served]]


def _settings(directory: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state_store_path": str(directory / "state"),
        "blob_storage": {"path": f"file://{directory}/blobs"},
        "listen_addr": "127.0.0.1:0",
        "listen_addr_grpc": "127.0.0.1:0",
        "long_poll_secs": 5,
        **keys,
    }


@asynccontextmanager
async def _serving(settings: ServerSettings) -> AsyncIterator[Served]:
    async with anyio.create_task_group() as tasks:
        bound = await tasks.start(partial(serve, settings))
        client = httpx.AsyncClient(base_url=f"http://{bound.http}", timeout=SECONDS)
        async with client, grpc.aio.insecure_channel(str(bound.grpc)) as channel:
            yield Served(client, str(bound.grpc), channel, settings, tasks.cancel_scope)
        tasks.cancel_scope.cancel()


@pytest.fixture
def document(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A configuration for this test, as a file has it."""
    return lambda **keys: _settings(tmp_path, keys)


@pytest.fixture
def serve_here(document: Callable[..., dict[str, Any]]) -> ServeHere:
    """Run a server in this process, by the store that all servers of one test share."""
    return lambda **keys: _serving(ServerSettings.model_validate(document(**keys)))


@pytest.fixture(scope="module")
async def shared_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Served, None]:
    """One server for all tests of a module that leave nothing in it to stumble over."""
    directory = tmp_path_factory.mktemp("shared")
    async with _serving(ServerSettings.model_validate(_settings(directory, {}))) as served:
        yield served


@pytest.fixture
async def server(serve_here: ServeHere) -> AsyncGenerator[Served, None]:
    async with serve_here() as served:
        yield served


@pytest.fixture
def reported() -> Callable[..., pb.ContainerState]:
    return state_of


@pytest.fixture
def manifest() -> Mapping[str, Any]:
    return {
        "name": "app",
        "version": "1",
        "functions": {"f": {"name": "f"}},
        "entrypoint": {"function_name": "f", "inputs_base64": "gASV\n"},
    }
