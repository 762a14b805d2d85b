"""Bodies stream both ways in bounded memory, no faster than the slower side, and end well."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import anyio
import pytest
from quayside import Dock, Peer, get, resident_bytes, respond

MIB = 1 << 20
BLOCK = bytes(range(256)) * 1024


def post(*fields: str) -> bytes:
    return get("/", *fields).replace(b"GET", b"POST", 1)


async def hashed(peer: Peer, size: int) -> str:
    digest, left = hashlib.sha256(), size
    while left:
        data = await peer.exactly(min(left, 65536))
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


async def send_blocks(peer: Peer, size: int, may_end: anyio.Event | None = None) -> str:
    """All of it; the last block when it may end."""
    digest = hashlib.sha256()
    for left in reversed(range(size // len(BLOCK))):
        if not left and may_end is not None:
            await may_end.wait()
        digest.update(BLOCK)
        await peer.send(BLOCK)
    return digest.hexdigest()


@pytest.mark.parametrize("port", [9501, 8080])
async def test_fifty_mebibytes_go_both_ways_at_once_in_bounded_memory(
    dock: Dock, port: int
) -> None:
    guest, size = await dock.guest(), 50 * MIB
    digests = dict[str, str]()

    async def api(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        has_all = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def receive() -> None:
                digests["up received"] = await hashed(peer, size)
                has_all.set()

            tasks.start_soon(receive)
            # With the end of an answer, what is left of the request is no longer passed on.
            digests["down sent"] = await send_blocks(peer, size, may_end=has_all)

    await (guest.serve_api(api) if port == 9501 else guest.serve_port(port, api))
    client = await dock.client()
    before = resident_bytes()
    await client.send(post(f"Content-Length: {size}", f"Tensorlake-Sandbox-Port: {port}"))
    async with anyio.create_task_group() as tasks:

        async def receive() -> None:
            await client.head()
            digests["down received"] = await hashed(client, size)

        tasks.start_soon(receive)
        digests["up sent"] = await send_blocks(client, size)
    assert digests["up received"] == digests["up sent"]
    assert digests["down received"] == digests["down sent"]
    assert resident_bytes() - before < 24 * MIB


async def test_a_slow_reader_holds_up_the_sandbox(dock: Dock) -> None:
    guest = await dock.guest()
    sent, stuck = 0, anyio.Event()

    async def api(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (200 * MIB))
        while True:
            with anyio.move_on_after(1) as patience:
                await peer.send(BLOCK)
            if patience.cancelled_caught:
                stuck.set()
                return
            sent += len(BLOCK)

    await guest.serve_api(api)
    client = await dock.client()
    before = resident_bytes()
    await client.send(get())
    await stuck.wait()
    assert sent < 32 * MIB
    assert resident_bytes() - before < 32 * MIB


async def test_a_slow_sandbox_holds_up_the_client(dock: Dock) -> None:
    guest, stuck = await dock.guest(), anyio.Event()

    async def api(peer: Peer) -> None:
        await peer.head()
        await stuck.wait()

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(post(f"Content-Length: {200 * MIB}"))
    sent = 0
    while True:
        with anyio.move_on_after(1) as patience:
            await client.send(BLOCK)
        if patience.cancelled_caught:
            break
        sent += len(BLOCK)
    stuck.set()
    assert sent < 32 * MIB


async def test_chunks_pass_as_they_come_both_ways(dock: Dock) -> None:
    guest = await dock.guest()
    body = b"3;x=y\r\nabc\r\n00A\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"

    async def api(peer: Peer) -> None:
        while True:
            await peer.head()
            received = await peer.exactly(len(body))
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + received)

    await guest.serve_api(api)
    client = await dock.client()
    for _ in range(2):
        await client.send(post("Transfer-Encoding: chunked") + body)
        assert (await client.head()).startswith(b"HTTP/1.1 200 OK")
        assert await client.exactly(len(body)) == body
    assert guest.connections == 1


async def test_a_body_and_the_next_request_in_one_piece_are_told_apart(dock: Dock) -> None:
    guest = await dock.guest()
    bodies = list[bytes]()

    async def api(peer: Peer) -> None:
        while True:
            head = await peer.head()
            size = 5 if head.startswith(b"POST") else 0
            bodies.append(await peer.exactly(size) if size else b"")
            await respond(peer)

    await guest.serve_api(api)
    client = await dock.client()
    await client.send((post("Content-Length: 5") + b"first" + get()) * 2)
    for _ in range(4):
        assert (await client.answer()).status == 200
    assert bodies == [b"first", b"", b"first", b""]


async def test_continue_is_asked_for_and_passed_back(dock: Dock) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        assert b"Expect: 100-continue" in await peer.head()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await respond(peer, await peer.exactly(4))

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(post("Content-Length: 4", "Expect: 100-continue"))
    assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: </x>"
    assert await client.head() == b"HTTP/1.1 100 Continue"
    await client.send(b"body")
    assert (await client.answer()).body == b"body"


async def test_events_arrive_one_by_one(dock: Dock) -> None:
    guest = await dock.guest()
    more = anyio.Event()

    async def api(peer: Peer) -> None:
        nonlocal more
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            await peer.send(b"data: %d\n\n" % number)
            await more.wait()
            more = anyio.Event()

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(get())
    assert b"Connection: close" in await client.head()
    for number in range(3):
        # The next one is not sent before this one has arrived.
        assert await client.until(b"\n\n") == b"data: %d\n\n" % number
        more.set()
    assert await client.rest() == b""


async def test_a_response_until_close_ends_with_the_connection(dock: Dock) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(get())
    assert await client.rest() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"


@pytest.mark.parametrize("framing", [b"Content-Length: 99", b"Transfer-Encoding: chunked"])
async def test_a_sandbox_that_dies_in_the_middle_breaks_off_the_response(
    dock: Dock, framing: bytes
) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n")

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(get())
    await client.head()
    assert await client.rest() == b"5\r\nhello\r\n"


@pytest.mark.parametrize("begin", ["413 Too Much", "202 Accepted\r\nConnection: close"])
async def test_an_early_answer_arrives_though_the_upload_is_cut(dock: Dock, begin: str) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        await peer.head()
        await peer.send(f"HTTP/1.1 {begin}\r\nContent-Length: 3\r\n\r\nno!".encode())

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(post(f"Content-Length: {8 * MIB}"))
    answers = list[tuple[int, bytes, str]]()

    async def read() -> None:
        answer = await client.answer()
        answers.append((answer.status, answer.body, answer.fields["connection"]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await send_blocks(client, 8 * MIB)
    assert answers == [(int(begin[:3]), b"no!", "close")]


async def test_a_refused_request_with_its_body_leaves_the_connection_usable(dock: Dock) -> None:
    client = await dock.client()
    raw = get("/", "Content-Length: 4", sandbox="nope").replace(b"GET", b"POST") + b"body"
    for _ in range(2):
        await client.send(raw)
        assert (await client.answer()).status == 404


async def test_a_client_that_goes_away_takes_its_connection_to_the_sandbox_with_it(
    dock: Dock,
) -> None:
    guest = await dock.guest()
    gone = anyio.Event()

    async def api(peer: Peer) -> None:
        await peer.head()
        await peer.rest()
        gone.set()

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(get())
    while not guest.connections:
        await anyio.lowlevel.checkpoint()
    await client.stream.aclose()
    await gone.wait()


async def test_a_client_that_goes_away_in_a_download_stops_the_sandbox(dock: Dock) -> None:
    guest = await dock.guest()
    broken = anyio.Event()

    async def api(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while True:
                await peer.send(BLOCK)
        except anyio.BrokenResourceError:
            broken.set()

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(get())
    await client.head()
    await client.stream.aclose()
    await broken.wait()


# Upgrades.


async def upgraded(dock: Dock, handler: object) -> Peer:
    client = await dock.client()
    await client.send(
        get("/ws", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k")
        + b"eager "
    )
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n")
    assert head.endswith(b"Connection: Upgrade\r\nUpgrade: websocket")
    return client


ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: a\r\n\r\n"
)


async def test_an_upgraded_connection_is_a_tunnel(dock: Dock) -> None:
    guest = await dock.guest()

    async def ws(peer: Peer) -> None:
        head = await peer.head()
        assert b"Connection: Upgrade\r\nUpgrade: websocket" in head
        await peer.send(ACCEPT + b"hello ")
        while True:
            await peer.send(await peer.some())

    await guest.serve_api(ws)
    client = await upgraded(dock, ws)
    assert await client.exactly(12) == b"hello eager "
    for size in (1, 1000, 300_000):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send, b"x" * size)
            assert await client.exactly(size) == b"x" * size


async def test_each_direction_of_a_tunnel_ends_by_itself(dock: Dock) -> None:
    guest = await dock.guest()

    async def ws(peer: Peer) -> None:
        await peer.head()
        await peer.send(ACCEPT)
        everything = await peer.rest()
        await peer.send(b"got " + everything)

    await guest.serve_api(ws)
    client = await upgraded(dock, ws)
    await client.send(b"bytes")
    await client.stream.send_eof()
    assert await client.rest() == b"got eager bytes"


async def test_the_sandbox_may_end_its_direction_first(dock: Dock) -> None:
    guest = await dock.guest()
    received = list[bytes]()
    done = anyio.Event()

    async def ws(peer: Peer) -> None:
        await peer.head()
        await peer.send(ACCEPT + b"bye")
        await peer.stream.send_eof()
        received.append(await peer.rest())
        done.set()

    await guest.serve_api(ws)
    client = await upgraded(dock, ws)
    assert await client.rest() == b"bye"
    await client.send(b"late")
    await client.stream.aclose()
    await done.wait()
    assert received == [b"eager late"]


async def test_an_upgrade_that_is_refused_is_an_ordinary_response(dock: Dock) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        while True:
            await peer.head()
            await respond(peer, b"no")

    await guest.serve_api(api)
    client = await dock.client()
    for _ in range(2):
        await client.send(get("/", "Connection: Upgrade", "Upgrade: websocket"))
        assert (await client.answer()).body == b"no"


def test_blocks_tell_their_order() -> None:
    assert all((a + 1) % 256 == b for a, b in pairwise(BLOCK[:1000]))
