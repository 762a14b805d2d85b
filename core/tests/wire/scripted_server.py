"""A control plane for tests of the worker: real gRPC, and every answer in the test's hands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import grpc
from grpc import aio
from longshore_proto import executor_api_pb2 as pb
from longshore_proto.executor_api_pb2_grpc import (
    ExecutorAPIServicer,
    add_ExecutorAPIServicer_to_server,
)


def sandbox(id_: str, **metadata: object) -> pb.ContainerDescription:
    """A description as the field's server sends it for a sandbox."""
    return pb.ContainerDescription(
        id=id_,
        function=pb.FunctionRef(
            namespace="default", application_name="", function_name=id_, application_version=""
        ),
        resources=pb.ContainerResources(cpu_ms_per_sec=100, memory_bytes=1 << 20, disk_bytes=1),
        sandbox_metadata=pb.SandboxMetadata(sandbox_id=id_, image="i", **metadata),
        container_type=pb.CONTAINER_TYPE_SANDBOX,
    )


@dataclass
class ScriptedServer(ExecutorAPIServicer):
    """Keeps the field's rules for registration, sequences and acks, unless a test bends them."""

    speaks_longshore: bool = False
    registered: bool = False
    forgetful: bool = False
    """It wants full state whatever it has had."""
    beats: list[pb.HeartbeatRequest] = field(default_factory=list)
    acks: list[int | None] = field(default_factory=list)
    outbox: list[pb.Command] = field(default_factory=list)
    seq: int = 0
    bend_heartbeat: Callable[[pb.HeartbeatRequest], grpc.StatusCode | None] = lambda _beat: None
    bend_poll: Callable[[list[pb.Command]], list[pb.Command]] = lambda commands: commands
    changed: anyio.Event = field(default_factory=anyio.Event)
    port: int = 0

    def command(self, **command: object) -> int:
        self.seq += 1
        self.outbox.append(pb.Command(seq=self.seq, **command))
        self._notify()
        return self.seq

    def add(self, description: pb.ContainerDescription) -> int:
        return self.command(add_container=pb.AddContainer(container=description))

    def remove(self, id_: str) -> int:
        return self.command(remove_container=pb.RemoveContainer(container_id=id_))

    @property
    def responses(self) -> list[pb.CommandResponse]:
        return [item for beat in self.beats for item in beat.command_responses]

    def started(self) -> list[str]:
        return [
            item.container_started.container_id
            for item in self.responses
            if item.HasField("container_started")
        ]

    def terminated(self) -> dict[str, int]:
        return {
            item.container_terminated.container_id: item.container_terminated.reason
            for item in self.responses
            if item.HasField("container_terminated")
        }

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(20):
            while not condition():
                await self.changed.wait()

    async def heartbeat(self, request, context):
        bent = self.bend_heartbeat(request)
        if bent is not None:
            self._notify()
            await context.abort(bent, "bent by the test")
        if self.speaks_longshore:
            keys = dict(context.invocation_metadata())
            if "longshore-protocol" in keys:
                await context.send_initial_metadata((("longshore-protocol", "1"),))
        self.beats.append(request)
        if request.HasField("full_state"):
            self.registered = True
            self.outbox, self.seq = [], 0
        self._notify()
        return pb.HeartbeatResponse(send_state=self.forgetful or not self.registered)

    async def poll_commands(self, request, context):
        if not self.registered:
            await context.abort(grpc.StatusCode.NOT_FOUND, "executor not registered")
        ack = request.acked_command_seq if request.HasField("acked_command_seq") else None
        self.acks.append(ack)
        self.outbox = [item for item in self.outbox if item.seq > (ack or 0)]
        self._notify()
        while not self.outbox:
            await self.changed.wait()
        return pb.PollCommandsResponse(commands=self.bend_poll(list(self.outbox)))

    async def poll_allocation_results(self, request, context):
        await anyio.sleep_forever()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


@asynccontextmanager
async def scripted_server(port: int = 0, **script: object) -> AsyncGenerator[ScriptedServer]:
    servicer = ScriptedServer(**script)
    server = aio.server()
    add_ExecutorAPIServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield servicer
    finally:
        with anyio.CancelScope(shield=True):
            await server.stop(0)
