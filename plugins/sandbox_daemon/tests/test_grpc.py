"""gRPC as clients in the field speak it: grpcio, over the sandbox's socket and over TCP."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import Config, Options, Patience, SandboxDaemon
from pydantic import ValidationError

Daemon = Any
TOKEN = (("longshore-sandbox-token", "the-token"),)
PATH = "/container_daemon_pb.ContainerDaemon/"
FIELD = descriptor_pb2.FieldDescriptorProto


def _messages() -> dict[str, Any]:
    """What protoc makes of the service's messages."""
    shapes = {
        "SendSignalRequest": [("signal", FIELD.TYPE_INT32)],
        "SendSignalResponse": [("success", FIELD.TYPE_BOOL), ("error", FIELD.TYPE_STRING)],
        "HealthRequest": [],
        "HealthResponse": [
            ("healthy", FIELD.TYPE_BOOL),
            ("version", FIELD.TYPE_STRING),
            ("uptime_secs", FIELD.TYPE_UINT64),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="d.proto", package="d", syntax="proto3")
    for name, fields in shapes.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            message.oneof_decl.add(name=f"_{field}")
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=FIELD.LABEL_OPTIONAL,
                proto3_optional=True,
                oneof_index=number - 1,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"d.{name}") for name in shapes}
    return {name: message_factory.GetMessageClass(kind) for name, kind in found.items()}


MESSAGES = _messages()


class Client:
    def __init__(self, target: str) -> None:
        options = [("grpc.default_authority", "sandbox")]
        self.channel = grpc.insecure_channel(target, options=options)

    def __call__(self, method: str, metadata: Any = TOKEN, **fields: Any) -> Any:
        call = self.channel.unary_unary(
            PATH + method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )
        return call(MESSAGES[f"{method}Request"](**fields), metadata=metadata, timeout=20)


@pytest.fixture
def connect() -> Iterator[Callable[[str], Client]]:
    clients = list[Client]()

    def begin(target: str) -> Client:
        clients.append(Client(target))
        return clients[-1]

    yield begin
    for client in clients:
        client.channel.close()


@pytest.fixture
def client(daemon: Daemon, connect: Callable[[str], Client]) -> Client:
    return connect(f"unix:{daemon.sockets}/grpc.sock")


def test_health_is_told_without_a_token_and_while_it_is_held(
    held: Daemon, connect: Callable[[str], Client]
) -> None:
    answer = connect(f"unix:{held.sockets}/grpc.sock")("Health", ())
    assert (answer.healthy, answer.version) == (True, "0.1.0")
    assert answer.HasField("uptime_secs")


def test_a_signal_reaches_the_oldest_process_that_runs(daemon: Daemon, client: Client) -> None:
    daemon.run("true")
    first = daemon.start("sleep", "100")["pid"]
    second = daemon.start("sleep", "100")["pid"]
    assert client("SendSignal").success
    daemon.follow(first)
    assert daemon.http.get(f"processes/{first}").json()["signal"] == signal.SIGTERM
    answer = client("SendSignal", signal=signal.SIGINT)
    assert (answer.success, answer.HasField("error")) == (True, False)
    daemon.follow(second)
    assert daemon.http.get(f"processes/{second}").json()["signal"] == signal.SIGINT


def test_what_comes_of_a_signal_is_told_in_the_answer(daemon: Daemon, client: Client) -> None:
    answer = client("SendSignal")
    assert (answer.success, answer.error) == (False, "No processes spawned")
    daemon.run("true")
    assert client("SendSignal").error == "No running process found (1 processes exited)"
    for number in (0, -1, 65, 2**31 - 1, -(2**31)):
        assert client("SendSignal", signal=number).error == f"Invalid signal number: {number}"


@pytest.mark.parametrize("metadata", [(), (("longshore-sandbox-token", "wrong"),)])
def test_signals_want_the_token(client: Client, metadata: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client("SendSignal", metadata)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error.details() == "the metadata longshore-sandbox-token is missing or wrong"


def test_signals_wait_for_the_release(held: Daemon, connect: Callable[[str], Client]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        connect(f"unix:{held.sockets}/grpc.sock")("SendSignal")
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_an_unknown_method_is_unimplemented(client: Client) -> None:
    for path in (f"{PATH}Ständig", "/other.Service/Call"):
        call = client.channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", metadata=TOKEN, timeout=20)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error.details() == f"there is no method {path}"


@pytest.mark.parametrize(
    "body", [b"\xff", b"\x08", b"\x0a\xff\x7f", b"\x0b", b"\x08" + b"\xff" * 10]
)
def test_a_malformed_message_is_refused(client: Client, body: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.channel.unary_unary(PATH + "SendSignal")(body, metadata=TOKEN, timeout=20)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_fields_of_later_versions_are_skipped(client: Client) -> None:
    body = b"\x12\x03abc" + b"\x1d\0\0\0\0" + b"\x21" + bytes(8) + b"\x28\x07" + b"\x08\x00"
    answer = client.channel.unary_unary(PATH + "SendSignal")(body, metadata=TOKEN, timeout=20)
    assert b"Invalid signal number: 0" in answer


def test_compression_is_refused_in_words(client: Client) -> None:
    call = client.channel.unary_unary(PATH + "SendSignal")
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(2000), metadata=TOKEN, timeout=20, compression=grpc.Compression.Gzip)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_many_calls_share_a_connection(client: Client) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client("Health"), range(500)))
    assert all(answer.healthy for answer in answers)


def test_what_is_too_large_is_reset_and_spoils_nothing(client: Client) -> None:
    with pytest.raises(grpc.RpcError):
        client.channel.unary_unary(PATH + "Health")(bytes(1 << 20), timeout=20)
    assert client("Health").healthy


def test_it_is_served_over_tcp_where_the_operator_wants_that(
    runtime: Any, start: Callable[..., Daemon], connect: Callable[[str], Client]
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    guest = SandboxDaemon(runtime, Patience(start=10, call=5, grace=5), Options(grpc=address))
    spec = ContainerSpec(id=ContainerId("c"), argv=(), env={"PATH": os.environ["PATH"]})
    launched = guest.launch(spec, Facts(mounts=False))
    daemon = start(launched.argv, launched.env)
    assert connect(address)("Health", ()).healthy
    daemon.ask("go", token="the-token")
    assert connect(address)("SendSignal").error == "No processes spawned"
    assert [event["line"] for event in daemon.run("env")[1:-1] if "GRPC" in event["line"]] == []


def test_an_address_that_somebody_has_costs_nothing_but_that(
    runtime: Any, start: Callable[..., Daemon]
) -> None:
    """As a second sandbox on the host's own network finds it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        guest = SandboxDaemon(runtime, Patience(start=10, call=5, grace=5), Options(grpc=address))
        spec = ContainerSpec(id=ContainerId("c"), argv=(), env={"PATH": os.environ["PATH"]})
        launched = guest.launch(spec, Facts(mounts=False))
        daemon = start(launched.argv, launched.env)
    daemon.ask("go", token="the-token")
    assert daemon.run("true")[-1] == {"exit_code": 0}
    assert f"cannot listen at {address}" in daemon.log()


@pytest.mark.parametrize(
    "text", ["9500", "localhost:9500", "127.0.0.1", "127.0.0.1:0", "1.2.3.4:99999"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=f"such as 127.0.0.1:9500, not {text}"):
        Config(grpc_listen=text)
