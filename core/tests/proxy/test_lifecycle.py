"""Time: the route feed that comes and goes, deadlines, and the proxy's own beginning and end."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from longshore_core._errors import ConfigError
from longshore_core._proxy.serve import ProxySettings, Timeouts, _listen, serve_proxy
from quayside import Dock, Peer, get, respond, running


async def hello(peer: Peer) -> None:
    while True:
        await peer.head()
        await respond(peer)


class Slow:
    """A response whose second half waits for the test."""

    def __init__(self) -> None:
        self.begun, self.go_on = anyio.Event(), anyio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        self.begun.set()
        await self.go_on.wait()
        await peer.send(b"later")
        await peer.rest()


# The feed.


async def test_a_download_and_the_table_survive_the_worker(dock: Dock) -> None:
    guest, slow = await dock.guest(), Slow()
    await guest.serve_port(80, slow)
    await guest.serve_api(hello)
    client = await dock.client()
    await client.send(get("/", "Tensorlake-Sandbox-Port: 80"))
    await slow.begun.wait()
    dock.worker.stop()
    assert (await dock.ask(get())).status == 200
    slow.go_on.set()
    assert (await client.answer()).body == b"firstlater"


async def test_a_worker_that_comes_back_replaces_the_table(dock: Dock) -> None:
    guest, slow = await dock.guest("old"), Slow()
    await guest.serve_port(80, slow)
    client = await dock.client()
    await client.send(get("/", "Tensorlake-Sandbox-Port: 80", sandbox="old"))
    await slow.begun.wait()
    dock.worker.stop()
    dock.worker.routes, dock.worker.seq = [], 0
    await dock.tasks.start(dock.worker.run)
    await dock.worker.wait_connected()
    assert (await dock.ask(get(sandbox="old"))).status == 404
    # A change of the table never touches what is in progress.
    slow.go_on.set()
    assert (await client.answer()).body == b"firstlater"


async def test_a_gap_in_the_feed_is_healed_by_a_new_connection(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_api(hello)
    worker = dock.worker
    peer = await worker.wait_connected()
    worker.expect_reconnect()
    worker.routes.append({"id": "missed", "status": "pending"})
    worker.seq += 2
    await peer.send(b'{"seq": %d, "drop": "c1"}\n' % worker.seq)
    await worker.wait_connected()
    assert worker.resets == 2
    assert (await dock.ask(get())).status == 200
    assert (await dock.ask(get(sandbox="missed"))).status == 503


async def test_a_dropped_route_is_gone_for_the_next_request(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_api(hello)
    client = await dock.client()
    await client.send(get())
    assert (await client.answer()).status == 200
    await dock.worker.drop("c1")
    await client.send(get())
    assert (await client.answer()).status == 404


async def test_several_changes_in_one_piece_are_acknowledged_one_by_one(dock: Dock) -> None:
    peer, seq = await dock.worker.wait_connected(), dock.worker.seq
    changes = [b'{"seq": %d, "drop": "x"}\n' % (seq + number) for number in (1, 2, 3)]
    await peer.send(b"".join(changes)[:-10])
    await peer.send(b"".join(changes)[-10:])
    for number in (1, 2, 3):
        assert await peer.until(b"\n") == b'{"ack": %d}\n' % (seq + number)


# Deadlines.


async def silent(peer: Peer) -> None:
    await peer.head()
    await peer.rest()


async def test_a_sandbox_that_does_not_answer_in_time(tmp_path: Path, quick: Timeouts) -> None:
    async with running(tmp_path, timeouts=quick) as dock:
        await (await dock.guest()).serve_api(silent)
        answer = await dock.ask(get())
    assert (answer.status, answer.json["code"]) == (504, "READ_TIMEOUT")


async def test_a_guest_that_does_not_connect_in_time(tmp_path: Path, quick: Timeouts) -> None:
    async with running(tmp_path, timeouts=quick) as dock:
        path = tmp_path / "mute"
        path.mkdir()
        async with await anyio.create_unix_listener(path / "control.sock"):
            await dock.worker.put(id="mute", status="running", dir=str(path))
            answer = await dock.ask(get("/", "Tensorlake-Sandbox-Port: 80", sandbox="mute"))
    assert (answer.status, answer.json["code"]) == (504, "CONNECTION_TIMEOUT")


async def test_a_sandbox_that_takes_no_more(tmp_path: Path, quick: Timeouts) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.head()
        await anyio.sleep_forever()

    async with running(tmp_path, timeouts=quick) as dock:
        await (await dock.guest()).serve_api(deaf)
        client = await dock.client()
        answers = list[Any]()

        async def read() -> None:
            answers.append(await client.answer())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            raw = get("/", f"Content-Length: {8 << 20}").replace(b"GET", b"PUT")
            await client.send(raw + bytes(8 << 20))
    assert (answers[0].status, answers[0].json["code"]) == (504, "WRITE_TIMEOUT")


async def test_a_response_that_falls_silent_is_broken_off(tmp_path: Path, quick: Timeouts) -> None:
    async with running(tmp_path, timeouts=quick) as dock:
        await (await dock.guest()).serve_api(Slow())
        client = await dock.client()
        await client.send(get())
        await client.head()
        assert await client.rest() == b"first"


async def test_events_and_tunnels_may_be_silent(tmp_path: Path, quick: Timeouts) -> None:
    async def quiet(peer: Peer) -> None:
        if b"Upgrade" in await peer.head():
            await peer.send(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await waiting.wait()
        await peer.send(b"at last")

    waiting = anyio.Event()
    async with running(tmp_path, timeouts=quick) as dock:
        await (await dock.guest()).serve_api(quiet)
        clients = [await dock.client(), await dock.client(), await dock.client()]
        await clients[0].send(get())
        await clients[1].send(get("/", "Connection: Upgrade", "Upgrade: x"))
        await clients[0].head()
        await clients[1].head()
        # Longer than any deadline: this one is closed by one that is as long as theirs.
        assert await clients[2].rest() == b""
        assert await (await dock.client()).rest() == b""
        waiting.set()
        assert await clients[0].rest() == b"at last"
        assert await clients[1].rest() == b"at last"


async def test_a_head_that_drips_is_given_up(tmp_path: Path, quick: Timeouts) -> None:
    async with running(tmp_path, timeouts=quick) as dock:
        client = await dock.client()
        await client.send(b"GET / HTTP/1.1\r\nHo")
        answer = await client.answer()
        assert (answer.status, answer.json["code"]) == (408, "REQUEST_TIMEOUT")
        assert await client.rest() == b""


async def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, quick: Timeouts) -> None:
    async with running(tmp_path, timeouts=quick) as dock:
        await (await dock.guest()).serve_api(silent)
        answer = await dock.ask(get("/", "Content-Length: 5") + b"abc")
    assert (answer.status, answer.json["code"]) == (408, "REQUEST_TIMEOUT")


async def test_a_client_with_nothing_more_to_say_is_closed(tmp_path: Path, quick: Timeouts) -> None:
    async with running(tmp_path, timeouts=quick) as dock:
        await (await dock.guest()).serve_api(hello)
        client = await dock.client()
        await client.send(get())
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


async def test_an_idle_connection_to_a_sandbox_is_closed(tmp_path: Path, quick: Timeouts) -> None:
    ended = anyio.Event()

    async def once(peer: Peer) -> None:
        await peer.head()
        await respond(peer)
        await peer.rest()
        ended.set()

    async with running(tmp_path, timeouts=quick) as dock:
        await (await dock.guest()).serve_api(once)
        assert (await dock.ask(get())).status == 200
        await ended.wait()


# The beginning and the end.


async def test_what_is_in_progress_is_finished_before_the_end(dock: Dock) -> None:
    guest, slow = await dock.guest(), Slow()
    await guest.serve_api(slow)
    idle, client = await dock.client(), await dock.client()
    await client.send(get())
    await slow.begun.wait()
    assert dock.proxy is not None
    dock.proxy.cancel()
    assert await idle.rest() == b""
    with pytest.raises(OSError, match="connect"):
        await dock.client()
    assert not dock.ended.is_set()
    slow.go_on.set()
    assert (await client.answer()).body == b"firstlater"
    assert await client.rest() == b""
    await dock.ended.wait()


async def test_the_end_comes_when_the_grace_is_over(tmp_path: Path) -> None:
    async with running(tmp_path, timeouts=Timeouts(drain_seconds=0.1)) as dock:
        slow = Slow()
        await (await dock.guest()).serve_api(slow)
        client = await dock.client()
        await client.send(get())
        await slow.begun.wait()
        assert dock.proxy is not None
        dock.proxy.cancel()
        await dock.ended.wait()
        await client.head()
        assert await client.rest() == b"first"


async def test_a_second_proxy_for_one_state_directory_is_refused(dock: Dock) -> None:
    settings = ProxySettings(state_dir=dock.state_dir, listen_addr="127.0.0.1", port=0)
    with pytest.raises(ConfigError) as caught:
        await serve_proxy(settings)
    assert str(caught.value) == (
        f"state_dir: another proxy already serves {dock.state_dir}; stop it, or choose another "
        "directory"
    )


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ProxySettings(state_dir=tmp_path, listen_addr="127.0.0.1", port=port)
        with pytest.raises(ConfigError) as caught:
            await serve_proxy(settings)
    assert str(caught.value) == (
        f"http_proxy.port: {port} on 127.0.0.1 is already in use; stop what listens there, or "
        "choose another port"
    )


async def test_a_further_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ProxySettings(
            state_dir=tmp_path, listen_addr="127.0.0.1", port=0, extra_ports=(port,)
        )
        with pytest.raises(ConfigError, match=rf"http_proxy\.extra_ports: {port} on 127\.0\.0\.1"):
            await serve_proxy(settings)


async def test_a_further_port_serves_as_the_first_one_does(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    async with running(tmp_path, extra_ports=(port,)) as dock:
        for each in (dock.port, port):
            async with await anyio.connect_tcp("127.0.0.1", each) as stream:
                await stream.send(get(sandbox="nope"))
                assert (await Peer(stream).answer()).status == 404


async def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    settings = ProxySettings(state_dir=tmp_path, listen_addr="192.0.2.1", port=0)
    with pytest.raises(
        ConfigError, match=r"http_proxy\.listen_addr: cannot listen on 192\.0\.2\.1"
    ):
        await serve_proxy(settings)


async def test_a_state_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="state_dir: cannot lock"):
        await serve_proxy(ProxySettings(state_dir=tmp_path / "none", port=0))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")
async def test_the_address_of_everything_serves_both_families(tmp_path: Path) -> None:
    async with running(tmp_path, listen_addr="::") as dock:
        for host in ("127.0.0.1", "::1"):
            async with await anyio.connect_tcp(host, dock.port) as stream:
                await stream.send(get(sandbox="nope"))
                assert (await Peer(stream).answer()).status == 404


async def test_a_deep_state_directory_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    (tmp_path / "short").symlink_to(deep)
    # The worker gets there by a shorter path; the proxy must not need one.
    async with running(tmp_path / "short") as dock:
        settings = ProxySettings(state_dir=deep)
        assert settings.state_dir.stat().st_ino == dock.state_dir.stat().st_ino


def test_the_proxys_process_is_light() -> None:
    code = "import sys, longshore_core._proxy.serve; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    heavy = {"grpc", "google", "pydantic", "stevedore", "ruamel", "psutil", "sqlalchemy"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in loaded.stdout.split())


async def test_connections_are_accepted_without_nagles_delay(tmp_path: Path) -> None:
    sockets = await _listen(ProxySettings(state_dir=tmp_path, listen_addr="127.0.0.1", port=0))
    try:
        (listening,) = sockets
        with socket.create_connection(listening.getsockname()):
            await anyio.wait_readable(listening)
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    finally:
        for sock in sockets:
            sock.close()
