"""What both carriers keep to on a real connection: deadlines, and one way to a sandbox."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from itertools import repeat
from pathlib import Path

import anyio
import httpx
import pytest
import trustme
from longshore import deadline
from longshore._carrier import CarryError, Request, finish
from longshore._http import AsyncCarrier, BlockingCarrier
from longshore._wires import BlockingWire, Target, dial_async, dial_blocking

from tests.machine import fair_time

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


@contextmanager
def peer(act: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Who takes one connection and does that with it; gives its URL. The event: it is over."""
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError), server.accept()[0] as client:
            act(client, over)

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            over.set()
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def pause_and_freeze(client: socket.socket, over: threading.Event) -> None:
    """Say something when half of the time is over, and then nothing any more."""
    client.recv(65536)
    client.sendall(HEAD)
    over.wait(1.5)
    client.sendall(b"x")
    over.wait(20)


def swallow(client: socket.socket, over: threading.Event) -> None:
    while client.recv(1 << 20) and not over.is_set():
        continue


async def endless() -> AsyncGenerator[bytes]:
    for piece in repeat(b"x" * 1000):
        yield piece


def test_a_deadline_holds_for_each_wait_and_not_anew() -> None:
    carrier = BlockingCarrier()
    with peer(pause_and_freeze) as url:
        began = fair_time()
        with deadline(3.0):
            stream = finish(carrier.open(Request(method="GET", url=url)))
            assert finish(stream.read()) == b"x"
            with pytest.raises(CarryError) as caught:
                finish(stream.read())
        assert fair_time() - began < 4
        assert caught.value.silent
        finish(carrier.close())


async def test_a_deadline_holds_for_each_wait_and_not_anew_also_by_awaiting() -> None:
    carrier = AsyncCarrier()
    with peer(pause_and_freeze) as url:
        began = fair_time()
        with deadline(3.0):
            stream = await carrier.open(Request(method="GET", url=url))
            assert await stream.read() == b"x"
            with pytest.raises(CarryError) as caught:
                await stream.read()
        assert fair_time() - began < 4
        assert caught.value.silent
        await stream.close()
        await carrier.close()


def test_an_upload_without_end_ends_with_its_deadline() -> None:
    carrier = BlockingCarrier()
    with peer(swallow) as url, deadline(0.3), pytest.raises(CarryError, match="too long"):
        finish(carrier.open(Request(method="PUT", url=url, body=repeat(b"x" * 1000))))
    finish(carrier.close())


async def test_an_upload_without_end_ends_with_its_deadline_also_by_awaiting() -> None:
    carrier = AsyncCarrier()
    async with aclosing(endless()) as body:
        with peer(swallow) as url, deadline(0.3), pytest.raises(CarryError, match="too long"):
            await carrier.open(Request(method="PUT", url=url, body=body))
    await carrier.close()


def answer(client: socket.socket, over: threading.Event) -> None:
    del over
    client.recv(65536)
    client.sendall(HEAD + b"x" * 100)


def test_nothing_takes_the_way_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Terminals and tunnels do not: a sandbox is reached one way or not at all.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    carrier = BlockingCarrier()
    with peer(answer) as url:
        assert finish(carrier.open(Request(method="GET", url=url))).status == 200
    finish(carrier.close())


async def test_nothing_takes_the_way_of_the_environment_also_by_awaiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    carrier = AsyncCarrier()
    with peer(answer) as url:
        stream = await carrier.open(Request(method="GET", url=url))
        assert stream.status == 200
        await stream.close()
    await carrier.close()


def fill(sock: socket.socket) -> None:
    """Until nothing more goes: whoever is there does not read."""
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 65536)


def never() -> bytes:
    raise AssertionError("there is no room for it")


def test_where_there_is_no_room_nothing_is_taken_nor_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire = BlockingWire(ours)
        finish(wire.send_at_once(lambda: b"pong"))
        assert theirs.recv(9) == b"pong"
        fill(ours)
        finish(wire.send_at_once(never))


async def test_where_there_is_no_room_nothing_is_taken_nor_waited_for_also_by_awaiting() -> None:
    with peer(lambda client, over: over.wait(20)) as url:
        parsed = httpx.URL(url)
        wire = await dial_async(Target(host=parsed.host, port=parsed.port or 0, context=None))
        with anyio.move_on_after(0.3):
            # Until nothing more goes: whoever is there does not read.
            while True:
                await wire.send(lambda: b"x" * 65536)
        with anyio.fail_after(5):
            await wire.send_at_once(never)
        await wire.close()


ECHO = """
import socket, ssl, sys

from tests.machine import fair_time
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1])
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    with context.wrap_socket(server.accept()[0], server_side=True) as client:
        while data := client.recv(65536):
            client.sendall(data)
"""


def test_by_tls_one_thread_may_send_while_another_receives(tmp_path: Path) -> None:
    authority, certificate = trustme.CA(), tmp_path / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    sent, got, total = bytearray(), bytearray(), 48 << 20

    def send() -> None:
        with suppress(CarryError):
            while len(sent) < total:
                piece = os.urandom(64 << 10)
                sent.extend(piece)
                finish(wire.send(lambda piece=piece: piece))

    # A process of its own: only at the same time do two threads come into each other's way.
    argv = [sys.executable, "-c", ECHO, str(certificate)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as echo:
        assert echo.stdout is not None
        port = int(echo.stdout.readline())
        wire = dial_blocking(Target(host="127.0.0.1", port=port, context=context))
        thread = threading.Thread(target=send)
        thread.start()
        try:
            while len(got) < total and (data := finish(wire.receive())):
                got += data
        finally:
            finish(wire.close())
            thread.join()
            echo.kill()
    assert hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


def test_threads_that_begin_at_once_share_what_the_first_has_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, together = list[httpx.Client](), threading.Barrier(2)

    class Slow(httpx.Client):
        def __init__(self, **options: object) -> None:
            made.append(self)
            with suppress(threading.BrokenBarrierError):
                together.wait(0.5)
            super().__init__(**options)  # type: ignore[arg-type]  # httpx's own

    monkeypatch.setattr(httpx, "Client", Slow)
    carrier = BlockingCarrier(httpx.MockTransport(lambda request: httpx.Response(200)))
    request = Request(method="GET", url="http://proxy.test/")
    threads = [threading.Thread(target=lambda: finish(carrier.open(request))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finish(carrier.close())
    assert [client.is_closed for client in made] == [True]
