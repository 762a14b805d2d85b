"""A sandbox that is being used from here: what the two faces of the SDK have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic
from typing import Final

from longshore._answers import Answer, guest_info
from longshore._calls import Call, Failure, Patience, Settings
from longshore._carrier import Carrier, Source, source_of
from longshore._copying import Copying
from longshore._deadline import check_deadline, cleaning_up, remaining
from longshore._errors import SandboxError, SandboxNotFoundError, SandboxTimeoutError
from longshore._files import RemoteFiles
from longshore._line import DAEMON_PORT, Ask, Line, address_of_port, terminated
from longshore._model import CreateOptions, Endpoint, GuestInfo, Reply, SandboxInfo, Status
from longshore._processes import Processes
from longshore._screen import Screen
from longshore._server import CLEANUP_SECONDS, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore._terminals import TerminalSession, TunnelSession

_ATTACH_SECONDS: Final = 300.0
_PROXYS_OWN: Final = frozenset({"error", "message", "code", "retryable", "request_id"})


class Session:
    """The parts, and whether the sandbox ends with it. Made by `create` and `attach`."""

    def __init__(self, carrier: Carrier, server: Server, info: SandboxInfo, *, owned: bool) -> None:
        self.carrier = carrier
        self.owned: bool = owned
        self.first_info = info
        self.line: Line = Line(carrier, server, info)
        self.processes: Processes = Processes(self.line)
        self.files: RemoteFiles = RemoteFiles(self.line)
        self.copying: Copying = Copying(self.line, self.files, self.processes)
        self._server = server

    @classmethod
    async def create(cls, carrier: Carrier, image: str | None, options: CreateOptions) -> Session:
        server = Server(carrier, Settings.of(options))
        try:
            info = await server.create(image, options)
        except BaseException:
            await carrier.close()
            raise
        return cls(carrier, server, info, owned=True)

    @classmethod
    async def attach(cls, carrier: Carrier, sandbox_id: str, endpoint: Endpoint) -> Session:
        """Raises SandboxTerminatedError, SandboxNotFoundError."""
        server = Server(carrier, Settings.of(endpoint))
        try:
            info = await _running(carrier, server, sandbox_id)
        except BaseException:
            await carrier.close()
            raise
        return cls(carrier, server, info, owned=False)

    @property
    def id(self) -> str:
        return self.line.sandbox_id

    async def info(self) -> SandboxInfo:
        return await self._server.info(self.id)

    async def is_healthy(self) -> bool:
        """Whether the daemon inside answers. False also for a sandbox that has ended."""
        try:
            await self.line.ask(Ask(method="GET", path="/health", phase="health"))
        except SandboxError:
            check_deadline("health", self.id)
            return False
        return True

    async def guest(self) -> GuestInfo:
        answer = await self.line.ask(Ask(method="GET", path="/info", phase="guest"))
        return guest_info(answer.fields())

    async def terminal(self, screen: Screen) -> TerminalSession:
        """Raises ValueError for what cannot be run, or shown."""
        # Not at the top, for most have no terminal: it would be a fifth of the time to import us.
        from longshore._terminals import TerminalSession

        return await TerminalSession.open(self.line, screen)

    async def tunnel(self, port: int) -> TunnelSession:
        """Raises ValueError for what is no port."""
        from longshore._terminals import TunnelSession

        return await TunnelSession.open(self.line, _checked(port))

    def url(self, port: int) -> str:
        """Raises ValueError for what is no port."""
        return address_of_port(self.line.url or "", self.id, _checked(port))

    async def request(
        self, method: str, port: int, path: str, headers: Mapping[str, str], body: Source | str
    ) -> Reply:
        """Whatever the program at that port answers. Raises SandboxError for the proxy's own."""
        if _checked(port) == DAEMON_PORT:
            raise ValueError(f"port {DAEMON_PORT} is the sandbox's own")
        path = path if path.startswith("/") else f"/{path}"
        call = Call(
            method=method,
            url=await self.line.base_url() + path,
            phase="request",
            headers={**headers, **self.line.headers(port)},
            body=source_of(body) or None,
            once=True,
        )
        caller = self.line.caller
        check_deadline("request", self.id)
        try:
            answer = await caller.read_whole(call, await caller.send(call))
        except Failure as failure:
            await self.line.explain(failure, Patience())
            raise failure.error from failure.__cause__
        if _is_proxys(answer):
            error = answer.error()
            await self.line.explain(Failure(error, untouched=True), Patience())
            raise error
        return Reply(status=answer.status, headers=dict(answer.headers), body=answer.body)

    async def close(self) -> None:
        """Destroy it if it is owned, and let go of it. Idempotent."""
        if self.owned:
            await self.destroy()
        await self.detach()

    async def destroy(self) -> None:
        """End the sandbox, even though a deadline has passed or the caller is being cancelled."""
        self.owned = False
        try:
            await self.carrier.finally_do(self._destroy(), CLEANUP_SECONDS + 1)
        finally:
            await self.detach()

    async def _destroy(self) -> None:
        with cleaning_up(CLEANUP_SECONDS):
            try:
                await self._server.delete(self.id)
            except SandboxNotFoundError:
                # Forgotten even by the server: it has ended long ago.
                return

    async def detach(self) -> None:
        """Let go of it, and leave it running."""
        self.owned = False
        await self.carrier.close()


async def info_of(carrier: Carrier, sandbox_id: str, endpoint: Endpoint) -> SandboxInfo:
    """Raises SandboxNotFoundError."""
    try:
        return await Server(carrier, Settings.of(endpoint)).info(sandbox_id)
    finally:
        await carrier.close()


async def delete(carrier: Carrier, sandbox_id: str, endpoint: Endpoint) -> None:
    """Raises SandboxNotFoundError for one that never was."""
    try:
        await Server(carrier, Settings.of(endpoint)).delete(sandbox_id)
    finally:
        await carrier.close()


class Listing:
    """Sandboxes, page by page."""

    def __init__(self, carrier: Carrier, status: Status | None, endpoint: Endpoint) -> None:
        self._carrier = carrier
        self._server = Server(carrier, Settings.of(endpoint))
        self._status = status
        self._cursor: str | None = None
        self._is_over = False

    async def next(self) -> tuple[SandboxInfo, ...] | None:
        """The next page; `None` after the last."""
        if self._is_over:
            return None
        page = await self._server.page(self._status, self._cursor)
        self._cursor = page.cursor
        self._is_over = page.cursor is None
        return page.sandboxes

    async def close(self) -> None:
        await self._carrier.close()


async def _running(carrier: Carrier, server: Server, sandbox_id: str) -> SandboxInfo:
    """Its description, once it runs."""
    until = monotonic() + min(_ATTACH_SECONDS, remaining())
    patience = Patience(math.inf)
    while (info := await server.info(sandbox_id)).status != "running":
        if info.status == "terminated":
            raise terminated(info)
        if monotonic() >= until:
            raise SandboxTimeoutError(
                "TIMEOUT",
                f"the sandbox does not run yet: {info.pending_reason or info.status}",
                retryable=True,
                sandbox_id=sandbox_id,
                phase="attach",
            )
        await patience.wait(carrier)
    return info


def _is_proxys(answer: Answer) -> bool:
    """Whether it is an error of the proxy's own: only that has exactly these, and our id."""
    if answer.status < 400 or answer.headers.get("content-type") != "application/json":
        return False
    try:
        complaint = answer.json()
    except SandboxError:
        return False
    return complaint.keys() == _PROXYS_OWN and complaint["request_id"] == answer.request_id


def _checked(port: int) -> int:
    if not 0 < port < 65536:
        raise ValueError(f"a port is a number from 1 to 65535, not {port}")
    return port
