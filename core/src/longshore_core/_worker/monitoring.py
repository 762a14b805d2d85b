"""The monitoring port: what a probe or a person asks of a worker. Routes: Indexify's dataplane."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import anyio
import h11
from anyio.abc import SocketStream, TaskStatus

from longshore_core._errors import ConfigError
from longshore_core._settings import Monitoring
from longshore_core._worker import listening
from longshore_core.process.answers import error_body

REQUEST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


Pages: TypeAlias = Mapping[str, Callable[[], Page]]


def page(status: int, body: Mapping[str, object]) -> Page:
    """A page with a JSON body, sent as text, as the field's probes expect it."""
    return Page(status=status, body=json.dumps(body))


async def serve_monitoring(
    settings: Monitoring,
    pages: Pages,
    *,
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `pages` by path until cancelled; starts with the bound port.

    Raises ConfigError when the port is taken.
    """
    try:
        listener = await anyio.create_tcp_listener(
            local_host=settings.listen_addr, local_port=settings.port
        )
    except OSError as exc:
        raise ConfigError(
            "monitoring.port",
            f"cannot listen on {settings.listen_addr}:{settings.port}: {exc.strerror or exc};"
            " stop what uses it or choose another port",
        ) from exc
    async with listener:
        task_status.started(int(listener.extra(anyio.abc.SocketAttribute.local_port)))
        await listening.serve(listener, partial(_answer, pages))


async def _answer(pages: Pages, stream: SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    async with stream:
        with anyio.move_on_after(REQUEST_SECONDS):
            try:
                request = await _request(connection, stream)
                await stream.send(_response(connection, request, _find(pages, request)))
            except (h11.RemoteProtocolError, anyio.EndOfStream, anyio.BrokenResourceError):
                return  # whoever it was spoke no HTTP, or has gone


async def _request(connection: h11.Connection, stream: SocketStream) -> h11.Request:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        connection.receive_data(await stream.receive())


def _find(pages: Pages, request: h11.Request) -> Page:
    path = request.target.partition(b"?")[0].decode("latin-1")
    if request.method not in (b"GET", b"HEAD"):
        return _error(405, "METHOD_NOT_ALLOWED", f"{path} can only be read")
    if path not in pages:
        return _error(404, "ROUTE_NOT_FOUND", f"no such page: {path}; there is {', '.join(pages)}")
    return pages[path]()


def _response(connection: h11.Connection, request: h11.Request, page_: Page) -> bytes:
    body = page_.body.encode()
    head = h11.Response(
        status_code=page_.status,
        headers=[
            ("content-type", page_.content_type),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ],
    )
    data = connection.send(head) or b""
    if request.method == b"HEAD":
        return data
    return data + (connection.send(h11.Data(data=body)) or b"")


def _error(status: int, code: str, message: str) -> Page:
    body = error_body(code, message, request_id="")
    return Page(status=status, body=json.dumps(body), content_type="application/json")
