"""The proxy over real sockets: what callers see, in order and in time."""

from __future__ import annotations

from quayside import Dock, Peer, respond


async def test_a_request_reaches_the_api_of_its_sandbox_with_its_token(dock: Dock) -> None:
    guest = await dock.guest(sandbox_id="s1")
    heads = list[bytes]()

    async def api(peer: Peer) -> None:
        heads.append(await peer.head())
        await respond(peer, b"hello")

    await guest.serve_api(api)
    answer = await dock.ask(
        b"GET /api/v1/x?y=z HTTP/1.1\r\nHost: h\r\nX-Request-Id: r1\r\n"
        b"tensorlake-SANDBOX-id: s1\r\nlongshore-sandbox-token: mine\r\nX-A: b\r\n\r\n"
    )
    assert (answer.status, answer.body) == (200, b"hello")
    assert heads == [
        b"GET /api/v1/x?y=z HTTP/1.1\r\nHost: h\r\nX-Request-Id: r1\r\nX-A: b\r\n"
        b"Longshore-Sandbox-Token: token-c1"
    ]
