"""The proxy over real sockets: requests, answers, and connections that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from longshore_core._heads import Flow, Layer, Outcome, RequestHead, ResponseHead
from quayside import Dock, Peer, get, respond, running


async def echo(peer: Peer) -> None:
    """Answers every request with its own head."""
    while True:
        await respond(peer, await peer.head())


async def test_a_request_reaches_the_api_of_its_sandbox_with_its_token(dock: Dock) -> None:
    guest = await dock.guest(sandbox_id="s1")
    await guest.serve_api(echo)
    answer = await dock.ask(
        b"GET /api/v1/x?y=z HTTP/1.1\r\nHost: h\r\nX-Request-Id: r1\r\n"
        b"tensorlake-SANDBOX-id: s1\r\nlongshore-sandbox-token: mine\r\nX-A: b\r\n\r\n"
    )
    assert answer.status == 200
    assert answer.body == (
        b"GET /api/v1/x?y=z HTTP/1.1\r\nHost: h\r\nX-Request-Id: r1\r\nX-A: b\r\n"
        b"Longshore-Sandbox-Token: token-c1"
    )


async def test_another_port_is_dialled_inside_and_gets_no_token(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_port(8080, echo)
    answer = await dock.ask(get("/", "Tensorlake-Sandbox-Port: 8080", "X-Request-Id: r1"))
    assert answer.body == b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: r1"


async def test_a_request_without_an_id_of_its_own_gets_one(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_api(echo)
    first, second = [
        (await dock.ask(get("/", *fields))).body.partition(b"X-Request-Id: ")[2].split(b"\r\n")[0]
        for fields in ((), ("X-Request-Id: not sane",))
    ]
    assert first
    assert second
    assert first != second
    assert b"sane" not in second


ERRORS = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "MISSING_SANDBOX_ID",
     "Missing Tensorlake-Sandbox-Id header"),
    (get(sandbox="nope"), 404, "SANDBOX_NOT_FOUND", "Sandbox not found"),
    (get(sandbox="waiting"), 503, "SANDBOX_NOT_RUNNING", "Sandbox not running (state: pending)"),
    (get("/", "Tensorlake-Sandbox-Port: x"), 400, "INVALID_SANDBOX_PORT",
     "The sandbox port must be one number from 1 to 65535"),
    (get("/", "Tensorlake-Sandbox-Port: 9500"), 403, "PORT_NOT_ROUTABLE",
     "Port 9500 of a sandbox is not routable"),
    (get("/", "Tensorlake-Sandbox-Port: 81"), 502, "CONNECTION_REFUSED",
     "Connection to sandbox refused. The sandbox may not be running."),
    (get(), 502, "CONNECTION_REFUSED",
     "Connection to sandbox refused. The sandbox may not be running."),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status", "code", "message"), ERRORS)
async def test_a_request_that_cannot_be_routed_is_answered_in_json(
    dock: Dock, raw: bytes, status: int, code: str, message: str
) -> None:
    await dock.guest()
    await dock.worker.put(id="waiting", sandbox_id=None, status="pending", dir=None, token=None)
    raw = raw.replace(b"Host: x", b"Host: x\r\nX-Request-Id: r1")
    answer = await dock.ask(raw)
    assert answer.status == status
    assert answer.json == {
        "error": message,
        "message": message,
        "code": code,
        "retryable": status >= 500,
        "request_id": "r1",
    }
    assert answer.fields["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("CONNECTION_TIMEOUT", 504, "CONNECTION_TIMEOUT"),
        ("INVALID_PORT", 400, "INVALID_SANDBOX_PORT"),
        ("NOT_RELEASED", 503, "SANDBOX_NOT_RUNNING"),
        ("WHATEVER", 502, "PROXY_ERROR"),
    ],
)
async def test_what_the_guest_says_about_a_port_is_passed_on(
    dock: Dock, reason: str, status: int, code: str
) -> None:
    guest = await dock.guest()
    guest.refuse_with = reason
    answer = await dock.ask(get("/", "Tensorlake-Sandbox-Port: 81"))
    assert (answer.status, answer.json["code"]) == (status, code)


async def test_a_connection_is_kept_on_both_sides(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_api(echo)
    client = await dock.client()
    for _ in range(3):
        await client.send(get())
        assert (await client.answer()).status == 200
    assert guest.connections == 1


async def test_a_dialled_connection_is_kept_too(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_port(80, echo)
    for _ in range(3):
        assert (await dock.ask(get("/", "Tensorlake-Sandbox-Port: 80"))).status == 200
    assert (guest.dials, guest.connections) == (1, 1)


async def test_pipelined_requests_are_answered_in_order(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_api(echo)
    client = await dock.client()
    missing = get(sandbox="nope")
    await client.send(get("/1") + missing + get("/2") + missing * 1500 + get("/3"))
    assert (await client.answer()).body.startswith(b"GET /1 ")
    assert (await client.answer()).status == 404
    assert (await client.answer()).body.startswith(b"GET /2 ")
    for _ in range(1500):
        assert (await client.answer()).status == 404
    assert (await client.answer()).body.startswith(b"GET /3 ")


async def test_a_request_may_come_byte_by_byte(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_api(echo)
    client = await dock.client()
    for byte in b"\r\n" + get():
        await client.send(bytes([byte]))
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("field", ["Connection: close", "Connection: Close, X"])
async def test_a_client_that_wants_to_close_is_closed(dock: Dock, field: str) -> None:
    guest = await dock.guest()
    await guest.serve_api(echo)
    client = await dock.client()
    await client.send(get("/", field))
    answer = await client.answer()
    assert answer.fields["connection"] == "close"
    assert await client.rest() == b""


async def test_http_1_0_is_served_and_closed(dock: Dock) -> None:
    guest = await dock.guest()
    await guest.serve_api(echo)
    client = await dock.client()
    await client.send(b"GET / HTTP/1.0\r\nTensorlake-Sandbox-Id: c1\r\n\r\n")
    answer = await client.answer()
    assert answer.body.startswith(b"GET / HTTP/1.0\r\n")
    assert await client.rest() == b""


async def test_head_is_answered_without_a_body(dock: Dock) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        while True:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")

    await guest.serve_api(api)
    client = await dock.client()
    for raw in (get(), get(sandbox="nope")):
        await client.send(raw.replace(b"GET", b"HEAD"))
        assert b"Content-Length: " in await client.head()
    await client.send(get().replace(b"GET", b"HEAD"))
    assert (await client.head()).startswith(b"HTTP/1.1 200 OK")


async def test_a_kept_connection_that_died_is_replaced_unseen(dock: Dock) -> None:
    guest = await dock.guest()

    async def once(peer: Peer) -> None:
        await peer.head()
        await respond(peer)

    await guest.serve_api(once)
    for method in (b"GET", b"POST", b"DELETE"):
        for _ in range(5):
            answer = await dock.ask(get().replace(b"GET", method))
            assert answer.status == 200


async def test_a_request_is_sent_again_when_a_kept_connection_dies_under_it(dock: Dock) -> None:
    guest = await dock.guest()

    async def second_dies(peer: Peer) -> None:
        await peer.head()
        await respond(peer)
        await peer.head()

    await guest.serve_api(second_dies)
    assert (await dock.ask(get())).status == 200
    assert (await dock.ask(get())).status == 200
    assert guest.connections == 2


async def test_what_changes_things_is_not_sent_again(dock: Dock) -> None:
    guest = await dock.guest()

    async def second_dies(peer: Peer) -> None:
        await peer.head()
        await respond(peer)
        await peer.head()

    await guest.serve_api(second_dies)
    assert (await dock.ask(get())).status == 200
    answer = await dock.ask(get().replace(b"GET", b"POST"))
    assert (answer.status, answer.json["code"]) == (502, "CONNECTION_CLOSED")
    assert guest.connections == 1


async def test_a_fresh_connection_that_dies_is_an_error(dock: Dock) -> None:
    guest = await dock.guest()

    async def dies(peer: Peer) -> None:
        await peer.head()

    await guest.serve_api(dies)
    answer = await dock.ask(get())
    assert (answer.status, answer.json["code"]) == (502, "CONNECTION_CLOSED")
    assert guest.connections == 1


@pytest.mark.parametrize(
    "response",
    [b"hello there\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
     b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 1\r\n\r\na",
     b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70000],
)  # fmt: skip
async def test_a_sandbox_that_breaks_http_is_an_error(dock: Dock, response: bytes) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        await peer.head()
        await peer.send(response)

    await guest.serve_api(api)
    answer = await dock.ask(get())
    assert (answer.status, answer.json["code"]) == (502, "PROXY_ERROR")


async def test_bytes_after_a_response_never_answer_the_next_request(dock: Dock) -> None:
    guest = await dock.guest()

    async def api(peer: Peer) -> None:
        await peer.head()
        await respond(peer, b"one")
        await respond(peer, b"stale")
        await peer.head()

    await guest.serve_api(api)
    client = await dock.client()
    for _ in range(2):
        await client.send(get())
        assert (await client.answer()).body == b"one"
    assert guest.connections == 2


MALFORMED = [
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
     "Both Content-Length and Transfer-Encoding"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400, "Folded header lines are not accepted"),
    (b"GET / HTTP/1.1\nHost: x\n\n", 400, "The request is not HTTP/1.1"),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400, "The request is not HTTP/1.1"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "Only HTTP/1.1 is served here"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70000, 431,
     "The request's head is larger than the proxy accepts"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status", "message"), MALFORMED)
async def test_a_malformed_request_is_answered_and_the_connection_closed(
    dock: Dock, raw: bytes, status: int, message: str
) -> None:
    client = await dock.client()
    await client.send(raw)
    answer = await client.answer()
    assert (answer.status, answer.json["error"]) == (status, message)
    assert answer.fields["connection"] == "close"
    assert await client.rest() == b""


async def test_ten_megabytes_of_headers_are_answered_before_the_end(dock: Dock) -> None:
    client = await dock.client()
    answers = list[int]()

    async def read() -> None:
        answers.append((await client.answer()).status)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await client.send(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (10 << 20 >> 3))
    assert answers == [431]


async def test_a_bad_chunk_ends_the_request_on_both_sides(dock: Dock) -> None:
    guest = await dock.guest()
    ends = list[bytes]()

    async def api(peer: Peer) -> None:
        await peer.head()
        ends.append(await peer.rest())

    await guest.serve_api(api)
    client = await dock.client()
    await client.send(
        get("/", "Transfer-Encoding: chunked").replace(b"GET", b"POST") + b"3\r\nabc\r\n"
    )
    await client.send(b"zz\r\n")
    answer = await client.answer()
    assert (answer.status, answer.json["error"]) == (400, "Malformed chunk size")
    assert await client.rest() == b""
    assert ends in ([b"3\r\nabc\r\n"], [])


# Middleware, in the proxy.


async def test_layers_see_requests_and_every_kind_of_answer(tmp_path: Path) -> None:
    outcomes = list[Outcome]()

    def flow(request: RequestHead) -> Flow:
        response = yield request.with_((b"X-Added", b"1"))
        return response.with_((b"X-Layer", b"yes"))

    layer = Layer(flow=flow, done=outcomes.append)
    async with running(tmp_path, middlewares=[layer]) as dock:
        guest = await dock.guest()
        await guest.serve_api(echo)
        good = await dock.ask(get("/a?secret=1"))
        missing = await dock.ask(get(sandbox="nope"))
    assert b"X-Added: 1" in good.body
    assert (good.fields["x-layer"], missing.fields["x-layer"]) == ("yes", "yes")
    shown = [(one.sandbox_id, one.port, one.path, one.status, one.error) for one in outcomes]
    assert shown == [
        ("c1", 9501, "/a", 200, None),
        ("nope", 9501, "/", 404, "SANDBOX_NOT_FOUND"),
    ]


async def test_admission_answers_before_anything_else(tmp_path: Path) -> None:
    async def admit(request: RequestHead) -> ResponseHead | None:
        await anyio.lowlevel.checkpoint()
        if request.get(b"authorization") is None:
            return ResponseHead.of(401, body=b"who?")
        return None

    def outer(request: RequestHead) -> Flow:
        response = yield request
        return response.with_((b"X-Outer", b"1"))

    def inner(request: RequestHead) -> Flow:
        response = yield request
        return response.with_((b"X-Inner", b"1"))

    layers = [Layer(flow=outer), Layer(admit=admit), Layer(flow=inner)]
    async with running(tmp_path, middlewares=layers) as dock:
        guest = await dock.guest()
        await guest.serve_api(echo)
        refused = await dock.ask(get())
        passed = await dock.ask(get("/", "Authorization: me"))
    assert (refused.status, refused.body) == (401, b"who?")
    assert ("x-outer" in refused.fields, "x-inner" in refused.fields) == (True, False)
    assert (passed.status, "x-inner" in passed.fields) == (200, True)
    assert guest.connections == 1


def breaks_at_once(_request: RequestHead) -> Flow:
    raise KeyError("x")
    yield


def breaks_later(request: RequestHead) -> Flow:
    yield request
    raise KeyError("x")


async def breaks_admitting(_request: RequestHead) -> ResponseHead | None:
    raise KeyError("x")


@pytest.mark.parametrize(
    "layer",
    [Layer(flow=breaks_at_once), Layer(flow=breaks_later), Layer(admit=breaks_admitting)],
    ids=["request", "response", "admit"],
)
async def test_a_layer_that_breaks_costs_one_request(tmp_path: Path, layer: Layer) -> None:
    async with running(tmp_path, middlewares=[layer]) as dock:
        guest = await dock.guest()
        await guest.serve_api(echo)
        for _ in range(2):
            answer = await dock.ask(get())
            assert (answer.status, answer.json["code"]) == (500, "INTERNAL_ERROR")


# Logs.


async def logged(tmp_path: Path, *requests: bytes) -> list[Any]:
    with structlog.testing.capture_logs() as lines:
        async with running(tmp_path) as dock:
            guest = await dock.guest()
            await guest.serve_api(echo)
            for raw in requests:
                await dock.ask(raw)
    return [line for line in lines if line.get("request_id") or "listen_addr" in line]


async def test_a_request_is_logged_without_its_secrets(tmp_path: Path) -> None:
    raw = get("/a?key=hush", "Authorization: hush", "X-Request-Id: r1")
    start, routing, completed = await logged(tmp_path, raw)
    assert (start["event"], start["log_level"]) == ("Starting HTTP proxy server", "info")
    assert (routing["event"], routing["log_level"]) == ("Routing request to container", "debug")
    assert completed.pop("duration_ms") >= 0
    assert completed == {
        "event": "Request completed",
        "log_level": "info",
        "span": "proxy_request",
        "sandbox_id": "c1",
        "port": 9501,
        "method": "GET",
        "path": "/a",
        "status_code": 200,
        "container_addr": f"unix:{tmp_path}/guests/c1/http.sock",
        "request_id": "r1",
    }
    assert "hush" not in repr([start, routing])
    assert "token-c1" not in repr([start, routing])


async def test_refusals_are_logged_by_the_names_that_operators_know(tmp_path: Path) -> None:
    bare = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    port = get("/", "Tensorlake-Sandbox-Port: 81")
    lines = await logged(tmp_path, bare, get(sandbox="nope"), port)
    shown = [(line["event"], line["log_level"]) for line in lines if "status_code" in line]
    assert shown == [
        ("Missing Tensorlake-Sandbox-Id header", "warning"),
        ("Sandbox not found", "warning"),
        ("Failed to connect to container", "error"),
    ]
