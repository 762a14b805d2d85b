from __future__ import annotations

import errno
import socket

import anyio
import pytest
from longshore_core import ConfigError
from longshore_core._settings import Monitoring
from longshore_core._worker import listening
from longshore_core._worker.monitoring import Page, page, serve_monitoring

PAGES = {"/ok": lambda: page(200, {"status": "ok"}), "/no": lambda: Page(status=503, body="no")}
LOCAL = Monitoring(port=0, listen_addr="127.0.0.1")


async def ask(port: int, request: bytes) -> bytes:
    """What the port answers until it hangs up."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request)
        answer = b""
        with anyio.fail_after(5):
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return answer


@pytest.fixture
async def port():
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(serve_monitoring, LOCAL, PAGES)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /ok HTTP/1.1", b"200", b'{"status": "ok"}'),
        ("GET /ok?verbose=1 HTTP/1.1", b"200", b'{"status": "ok"}'),
        ("GET /no HTTP/1.0", b"503", b"no"),
        ("HEAD /ok HTTP/1.1", b"200", b""),
        ("HEAD /none HTTP/1.1", b"404", b""),
    ],
)
async def test_pages_are_answered(port, request_line: str, status: bytes, body: bytes) -> None:
    answer = await ask(port, f"{request_line}\r\nHost: x\r\n\r\n".encode())
    head, _, found = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert found == body


async def test_what_is_no_page_is_answered_with_those_that_are(port) -> None:
    answer = await ask(port, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 404 " in answer
    assert b"there is /ok, /no" in answer
    answer = await ask(port, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert b" 405 " in answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01 TLS?\r\n\r\n",
        b"GET /ok HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000,
        b"\r\n" * 10,
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["tls", "endless", "blank", "connect", "latin"],
)
async def test_garbage_is_hung_up_on_and_the_port_lives(port, garbage: bytes) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            await stream.send(garbage)
            await stream.send_eof()
        except (anyio.BrokenResourceError, OSError):
            pass  # it has hung up already
    assert b" 200 " in await ask(port, b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_whoever_connects_and_says_nothing_is_hung_up_on(port) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send_eof()
        with anyio.fail_after(2), pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_a_taken_port_is_an_error_of_the_configuration() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            await serve_monitoring(Monitoring(port=number, listen_addr="127.0.0.1"), PAGES)
    assert str(caught.value) == (
        f"monitoring.port: cannot listen on 127.0.0.1:{number}: Address already in use;"
        " stop what uses it or choose another port"
    )


class Short:
    """A listener of a host that is out of descriptors, and later of something worse."""

    def __init__(self) -> None:
        self.faults: list[BaseException] = [
            OSError(errno.EMFILE, "Too many open files"),
            ExceptionGroup("listeners", [OSError(errno.ENFILE, "Too many open files")]),
            OSError(errno.EBADF, "Bad file descriptor"),
        ]

    async def serve(self, _handler, _tasks=None) -> None:
        raise self.faults.pop(0)


async def test_a_shortage_is_waited_out_and_nothing_else(monkeypatch) -> None:
    monkeypatch.setattr(listening, "PAUSE_SECONDS", 0)
    short = Short()
    with pytest.raises(BaseExceptionGroup) as caught:
        await listening.serve(short, lambda _stream: anyio.sleep(0))
    assert caught.group_contains(OSError, match="Bad file descriptor")
    assert short.faults == []
