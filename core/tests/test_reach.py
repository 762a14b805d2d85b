"""A container can put anything into the directory of its sockets, and answer anything on them."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from longshore_core import GuestError, TcpReach, UnixReach, UnsupportedCapability, reach

Answer = Callable[[socket.socket], None]


def sent(line: bytes, *descriptors: int) -> Answer:
    """An answer with descriptors, which are the guest's own no more."""

    def answer(connection: socket.socket) -> None:
        fds = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if descriptors else []
        try:
            connection.sendmsg([line], ancillary)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    return answer


OK = b'{"ok": true}\n'


@pytest.fixture
def guest(tmp_path: Path):
    """Listen as a guest; each connection gets one request read and one answer."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / reach.CONTROL))
    listener.listen()
    listener.settimeout(10)
    requests: list[dict] = []

    def serve(answer: Answer) -> None:
        connection, _ = listener.accept()
        with connection:
            requests.append(json.loads(connection.makefile().readline()))
            with contextlib.suppress(OSError):
                answer(connection)

    serve.requests = requests
    serve.reach = UnixReach(str(tmp_path))
    yield serve
    listener.close()


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def dialled(guest, answer: Answer) -> socket.socket:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, guest, answer)
        try:
            with anyio.fail_after(10):
                return await reach.dial(guest.reach, 8080)
        except GuestError as exc:
            error = exc
    raise error


def tcp_pair() -> tuple[socket.socket, int, socket.socket]:
    """A listener, the descriptor of a connection to it, and the accepted end."""
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    return listener, near.detach(), far


async def test_a_dialled_port_is_a_socket_that_no_child_inherits(guest) -> None:
    listener, near, far = tcp_pair()
    with listener, far, await dialled(guest, sent(OK, near)) as sock:
        assert guest.requests == [{"v": 1, "op": "dial", "port": 8080}]
        assert not sock.get_inheritable()
        assert not sock.getblocking()
        far.send(b"hello")
        await anyio.wait_readable(sock)
        assert sock.recv(5) == b"hello"


def unconnected() -> int:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()


def listening() -> int:
    return socket.create_server(("127.0.0.1", 0)).detach()


def datagram() -> int:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()


def local() -> int:
    one, other = socket.socketpair()
    other.close()
    return one.detach()


def file() -> int:
    return os.open("/etc/passwd", os.O_RDONLY)


@pytest.mark.parametrize("make", [unconnected, listening, datagram, local, file])
async def test_what_is_no_connected_tcp_socket_is_refused_and_closed(guest, make) -> None:
    with pytest.raises(GuestError, match="8080"):
        await dialled(guest, sent(OK, make()))
    before = open_descriptors()
    with pytest.raises(GuestError):
        await dialled(guest, sent(OK, make()))
    assert open_descriptors() == before


@pytest.mark.parametrize(
    "answer",
    [
        sent(b""),
        sent(b'{"ok": tr'),
        sent(b"[]\n"),
        sent(b"hello\n"),
        sent(b"\xff\xfe\n"),
        sent(b"[" * 100_000 + b"\n"),
        sent(OK + b"more\n"),
    ],
    ids=["nothing", "half", "list", "text", "bytes", "deep", "two"],
)
async def test_an_answer_that_is_none_is_an_error_of_the_guest(guest, answer: Answer) -> None:
    with pytest.raises(GuestError, match="answer to dial"):
        await dialled(guest, answer)


async def test_an_endless_answer_is_broken_off(guest) -> None:
    def endless(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 65536)

    with pytest.raises(GuestError, match="broke off"):
        await dialled(guest, endless)


async def test_a_guest_cannot_use_up_our_descriptors(guest) -> None:
    def generous(connection: socket.socket) -> None:
        for _ in range(100):
            sent(b" ", file(), file())(connection)

    with pytest.raises(GuestError, match="too many descriptors"):
        await dialled(guest, generous)
    before = open_descriptors()
    with pytest.raises(GuestError, match="too many descriptors"):
        await dialled(guest, generous)
    assert open_descriptors() == before


async def test_a_refusal_carries_the_guest_s_reason(guest) -> None:
    refusal = b'{"ok": false, "code": "CONNECTION_REFUSED", "error": "nobody"}\n'
    with pytest.raises(reach.DialError, match="nobody") as caught:
        await dialled(guest, sent(refusal))
    assert caught.value.reason == "CONNECTION_REFUSED"


async def test_a_refusal_that_brings_a_socket_leaves_none_behind(guest) -> None:
    with pytest.raises(reach.DialError):
        await dialled(guest, sent(b'{"ok": false}\n', unconnected()))
    before = open_descriptors()
    with pytest.raises(reach.DialError):
        await dialled(guest, sent(b'{"ok": false}\n', unconnected()))
    assert open_descriptors() == before


async def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(elsewhere))
        other.listen()
        (tmp_path / reach.CONTROL).symlink_to(elsewhere)
        with pytest.raises(GuestError, match="is not a socket"):
            await reach.connect(UnixReach(str(tmp_path)), reach.CONTROL)


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo])
async def test_what_is_no_socket_is_refused(tmp_path: Path, make) -> None:
    make(tmp_path / reach.CONTROL)
    with pytest.raises(GuestError, match="is not a socket"):
        await reach.connect(UnixReach(str(tmp_path)), reach.CONTROL)


async def test_what_is_not_there_yet_may_be_tried_again(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(GuestError) as caught:
            await reach.connect(UnixReach(str(place)), reach.CONTROL)
        assert caught.value.retryable


async def test_a_full_backlog_is_waited_for_and_left_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / reach.CONTROL))
        listener.listen(0)
        taken = await reach.connect(UnixReach(str(tmp_path)), reach.CONTROL)
        before = open_descriptors()
        with anyio.move_on_after(0.05) as waited:
            await reach.connect(UnixReach(str(tmp_path)), reach.CONTROL)
        assert waited.cancelled_caught
        assert open_descriptors() == before
        taken.close()


async def test_over_tcp_there_is_nothing_to_dial_with() -> None:
    with pytest.raises(UnsupportedCapability):
        await reach.dial(TcpReach("10.0.0.1"), 80)
