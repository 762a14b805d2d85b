"""The SDK where TLS is in front of server and proxy, as wherever there are several machines."""

from __future__ import annotations

import hashlib
import os
import ssl
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trustme
from anyio.abc import ByteStream
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSListener
from longshore import AsyncSandbox, Sandbox, SandboxConnectionError, _http
from longshore._session import Session

from tests.system.harness import system
from tests.system.test_sdk import meanwhile
from tests.system.test_sdk_channels import ECHO

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]


@asynccontextmanager
async def front(context: ssl.SSLContext, port: int) -> AsyncGenerator[str]:
    """Who ends TLS and passes on all the rest, as a load balancer does; gives its URL."""

    async def carry(source: ByteStream, sink: ByteStream, scope: anyio.CancelScope) -> None:
        try:
            async for piece in source:
                await sink.send(piece)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            pass  # The other one is told below. (By TLS, sending may find the end of the stream.)
        scope.cancel()

    async def serve(client: ByteStream) -> None:
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", port) as inner,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(carry, client, inner, tasks.cancel_scope)
            tasks.start_soon(carry, inner, client, tasks.cancel_scope)

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    (listener,) = (TLSListener(one, context, standard_compatible=False) for one in plain.listeners)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"https://127.0.0.1:{plain.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


class Fronts:
    def __init__(self, api: str, proxy: str) -> None:
        self.api, self.proxy = api, proxy

    def lead(self, session: Session) -> None:
        """A server on one machine knows its proxy by plain HTTP alone."""
        session.line.url = self.proxy


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    ours = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    directory: Path = tmp_path_factory.mktemp("tls")
    ours.cert_pem.write_to_path(str(directory / "ca.pem"))
    with (
        system(directory) as started,
        pytest.MonkeyPatch.context() as patch,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(front(context, started.http_port)) as api,
        portal.wrap_async_context_manager(front(context, started.proxy_port)) as proxy,
    ):
        started.start_all()
        patch.setenv("SSL_CERT_FILE", str(directory / "ca.pem"))
        patch.setenv("LONGSHORE_API_URL", api)
        _http._context.cache_clear()  # read once, since that takes long
        yield Fronts(api, proxy)
    _http._context.cache_clear()  # as above


@pytest.fixture(scope="module")
def sandbox(fronts: Fronts) -> Iterator[Sandbox]:
    with Sandbox.create() as created:
        fronts.lead(created._session)
        yield created


@pytest.fixture(scope="module")
def echo_port(sandbox: Sandbox) -> Iterator[int]:
    with sandbox.start([sys.executable, "-c", ECHO]) as process:
        yield int(next(iter(process)).text)


def test_commands_files_and_terminals_pass(sandbox: Sandbox) -> None:
    data = os.urandom(3 << 20)
    assert sandbox.run("cat", input=data).stdout == data
    sandbox.files.write("data", data)
    assert sandbox.files.read("data") == data
    with sandbox.terminal(["cat"]) as terminal:
        terminal.write("hello\n")
        assert b"hello" in terminal.read(timeout=60)


def test_one_thread_writes_to_a_tunnel_while_another_reads(
    sandbox: Sandbox, echo_port: int
) -> None:
    data = os.urandom(24 << 20)
    digest, size = hashlib.sha256(), 0
    with sandbox.tunnel(echo_port) as tunnel, meanwhile(lambda: tunnel.write(data)):
        for piece in tunnel:
            digest.update(piece)
            size += len(piece)
            if size >= len(data):
                break
    assert digest.digest() == hashlib.sha256(data).digest()


async def test_all_of_it_passes_also_by_awaiting(
    fronts: Fronts, sandbox: Sandbox, echo_port: int
) -> None:
    data = os.urandom(3 << 20)
    async with AsyncSandbox.attach(sandbox.id) as attached:
        fronts.lead(attached._session)
        assert (await attached.run("cat", input=data)).stdout == data
        async with attached.terminal(["cat"]) as terminal:
            await terminal.write("hello\n")
            assert b"hello" in await terminal.read(timeout=60)
        got = bytearray()
        async with attached.tunnel(echo_port) as tunnel, anyio.create_task_group() as tasks:
            tasks.start_soon(tunnel.write, data)
            async for piece in tunnel:
                got += piece
                if len(got) >= len(data):
                    break
        assert got == data


def test_a_certificate_that_nobody_knows_is_refused(
    fronts: Fronts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    _http._context.cache_clear()
    try:
        with pytest.raises(SandboxConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            Sandbox.create(api_url=fronts.api)
    finally:
        _http._context.cache_clear()
