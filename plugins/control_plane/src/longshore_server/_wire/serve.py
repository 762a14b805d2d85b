"""The gRPC server of the executor API.

gRPC runs the handlers in tasks of its own, so their errors end here: ours become statuses, and
what is left is gRPC's to report.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
from grpc import aio
from longshore_core import ConfigError, RequestError
from longshore_proto import executor_api_pb2 as pb
from longshore_proto import executor_api_pb2_grpc as pb_grpc

from longshore_server import addresses
from longshore_server._wire import convert
from longshore_server.addresses import Address
from longshore_server.plane import ControlPlane, ExecutorUnknown
from longshore_server.settings import Tls

PROTOCOL: Final = 1
_METADATA: Final = "longshore-protocol"
_MESSAGE_BYTES: Final = 32 * 1024 * 1024
_GRACE_SECONDS: Final = 0.5
_OPTIONS: Final = (
    # By default the core turns calls away at random from 1,000 waiting ones.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Else a second server shares the port, and each executor meets either of them.
    ("grpc.so_reuseport", 0),
)

Context = aio.ServicerContext[Any, Any]


@asynccontextmanager
async def open_wire(
    plane: ControlPlane, address: Address, tls: Tls
) -> AsyncGenerator[Address, None]:
    """Serve the executor API; yields where. Raises ConfigError when it cannot listen or read a key.

    Leaving it, calls get half a second to end; those that the plane holds end with `plane.stop`.
    """
    server = aio.server(options=_OPTIONS)
    pb_grpc.add_ExecutorAPIServicer_to_server(_Servicer(plane), server)
    credentials = _credentials(tls) if tls.enabled else None
    if address.port:
        # gRPC only says that it failed; a socket says why.
        addresses.listen(address, "listen_addr_grpc").close()
    try:
        if credentials is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), credentials)
    except RuntimeError as exc:
        raise ConfigError("listen_addr_grpc", f"cannot listen on {address}") from exc
    await server.start()
    try:
        yield replace(address, port=port)
    finally:
        await server.stop(_GRACE_SECONDS)


class _Servicer(pb_grpc.ExecutorAPIServicer):
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def heartbeat(
        self, request: pb.HeartbeatRequest, context: Context
    ) -> pb.HeartbeatResponse:
        extended = await _greet(context)
        if not request.executor_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "executor_id is missing")
        try:
            ask = await self._plane.heartbeat(convert.heartbeat_of(request, extended=extended))
        except RequestError as exc:
            await _refuse(context, exc)
        return pb.HeartbeatResponse(
            send_state=ask, longshore=pb.ServerExtension(protocol=PROTOCOL) if extended else None
        )

    async def poll_commands(
        self, request: pb.PollCommandsRequest, context: Context
    ) -> pb.PollCommandsResponse:
        await _greet(context)
        if not request.executor_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "executor_id is missing")
        acked = request.acked_command_seq if request.HasField("acked_command_seq") else None
        try:
            return convert.commands_reply(
                await self._plane.poll_commands(request.executor_id, acked)
            )
        except RequestError as exc:
            await _refuse(context, exc)

    async def poll_allocation_results(
        self, request: pb.PollAllocationResultsRequest, context: Context
    ) -> pb.PollAllocationResultsResponse:
        await _greet(context)
        if not request.executor_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "executor_id is missing")
        try:
            await self._plane.hold_results_poll(request.executor_id)
        except RequestError as exc:
            await _refuse(context, exc)
        return pb.PollAllocationResultsResponse()


async def _greet(context: Context) -> bool:
    """Whether the peer speaks Longshore's extension; if so, it hears that the server does too."""
    spoken = dict(context.invocation_metadata() or ()).get(_METADATA)
    if spoken != str(PROTOCOL):
        return False
    await context.send_initial_metadata(((_METADATA, str(PROTOCOL)),))
    return True


async def _refuse(context: Context, error: RequestError) -> NoReturn:
    if isinstance(error, ExecutorUnknown):
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    await context.abort(grpc.StatusCode.UNAVAILABLE, f"{error.code}: {error}")


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    key = _content(tls.key_path, "key_path")
    certificate = _content(tls.cert_path, "cert_path")
    roots = _content(tls.client_ca_path, "client_ca_path")
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=roots or None, require_client_auth=bool(roots)
    )


def _content(path: Path | None, name: str) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"tls.{name}", f"cannot read {path}: {exc.strerror}") from exc
