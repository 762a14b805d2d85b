"""The way to one sandbox: calls through its proxy, and what has become of it when they fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from longshore._answers import Answer
from longshore._calls import Call, Caller, Failure, Opened, Patience
from longshore._carrier import Carrier, Source
from longshore._deadline import check_deadline, deadline
from longshore._errors import (
    SandboxError,
    SandboxNotFoundError,
    SandboxTerminatedError,
    SandboxTimeoutError,
)
from longshore._model import SandboxInfo
from longshore._server import Server

DAEMON_PORT: Final = 9501
_HEEDED: Final = "longshore-heeds"
_SUSPICIOUS: Final = frozenset(
    {
        "CONNECTION_CLOSED",
        "CONNECTION_FAILED",
        "CONNECTION_LOST",
        "CONNECTION_REFUSED",
        "CONNECTION_TIMEOUT",
        "READ_TIMEOUT",
        "SANDBOX_NOT_FOUND",
        "SANDBOX_NOT_RUNNING",
        "STOPPING",
        "TIMEOUT",
    }
)
"""After these, the sandbox may be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A call to the daemon of a sandbox."""

    method: str
    path: str
    phase: str
    json: Mapping[str, Any] | None = None
    body: Source | None = None
    headers: Mapping[str, str] | None = None
    repeatable: bool = True
    keyed: bool = False
    """It gets an idempotency key."""
    silence_seconds: float = 65.0
    live: bool = False


class Line:
    """To one sandbox. It finds out by itself where the proxy is, also when that has moved."""

    def __init__(self, carrier: Carrier, server: Server, info: SandboxInfo) -> None:
        self.carrier = carrier
        self.server = server
        self.sandbox_id: str = info.id
        self.url: str | None = info.sandbox_url
        self.caller: Caller = Caller(carrier, info.id, self.explain)

    async def ask(self, ask: Ask, patience: Patience | None = None) -> Answer:
        """The daemon's whole answer. Raises SandboxError."""
        return await self.caller.ask(await self.call(ask), patience)

    async def open(self, ask: Ask, patience: Patience | None = None) -> Opened:
        """The daemon's answer, its body still to come. Raises SandboxError."""
        return await self.caller.open(await self.call(ask), patience)

    async def call(self, ask: Ask) -> Call:
        headers = {**self.headers(DAEMON_PORT), **(ask.headers or {})}
        body = ask.body
        if ask.json is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(ask.json).encode()
        if ask.keyed:
            headers["Idempotency-Key"] = uuid4().hex
        return Call(
            method=ask.method,
            url=f"{await self.base_url()}/api/v1{ask.path}",
            phase=ask.phase,
            headers=headers,
            body=body,
            repeatable=ask.repeatable,
            keyed=ask.keyed,
            silence_seconds=ask.silence_seconds,
            live=ask.live,
        )

    def headers(self, port: int) -> dict[str, str]:
        named = {"Tensorlake-Sandbox-Id": self.sandbox_id}
        return named if port == DAEMON_PORT else {**named, "Tensorlake-Sandbox-Port": str(port)}

    async def base_url(self) -> str:
        """Of the proxy. Raises SandboxTerminatedError when there is none any more."""
        if self.url is None:
            await self.refresh()
        return (self.url or "").rstrip("/")

    async def refresh(self, *, once: bool = False) -> SandboxInfo:
        """What the server knows by now. Raises SandboxTerminatedError, SandboxNotFoundError."""
        info = await self.server.info(self.sandbox_id, once=once)
        if info.status == "terminated":
            raise terminated(info)
        if info.sandbox_url is not None:
            self.url = info.sandbox_url
        return info

    async def diagnose(self, patience: Patience) -> None:
        """Raises when the sandbox has ended; returns once it answers, or when nobody knows."""
        while True:
            with deadline(patience.left):
                if await self._is_known_to_run() and await self.is_healthy():
                    return
            if not await patience.wait(self.carrier):
                return

    async def _is_known_to_run(self) -> bool:
        try:
            await self.refresh(once=True)
        except (SandboxTerminatedError, SandboxNotFoundError):
            raise
        except SandboxError:
            # Nor can the server be asked. It may be on its way back, as the proxy may.
            return False
        return True

    async def is_healthy(self) -> bool:
        """Whether the daemon answers, asked once."""
        call = await self.call(Ask(method="GET", path="/health", phase="health"))
        try:
            answer = await self.caller.read_whole(call, await self.caller.open_once(call))
        except (Failure, SandboxTimeoutError):
            # That deadline is of who asks how it is; who has one of his own looks at it himself.
            return False
        self.caller.heeds_keys = "idempotency-key" in answer.headers.get(_HEEDED, "").lower()
        return True

    async def explain(self, failure: Failure, patience: Patience) -> None:
        """Raises SandboxTerminatedError or SandboxNotFoundError if that is why it failed."""
        if failure.error.code not in _SUSPICIOUS:
            return
        check_deadline(failure.error.phase or "", self.sandbox_id)
        try:
            await self.diagnose(patience)
        except (SandboxTerminatedError, SandboxNotFoundError) as exc:
            exc.phase = failure.error.phase
            raise exc from failure.error


def terminated(info: SandboxInfo) -> SandboxTerminatedError:
    why = info.outcome or "unknown outcome"
    return SandboxTerminatedError(
        "SANDBOX_TERMINATED",
        f"the sandbox has ended: {why}" + (f": {info.error}" if info.error else ""),
        sandbox_id=info.id,
        phase="info",
    )


def address_of_port(sandbox_url: str, sandbox_id: str, port: int) -> str:
    """The URL by which a port of a sandbox is known without any header: by the name of the host."""
    parts = urlsplit(sandbox_url)
    host = parts.hostname or ""
    rest = f":{parts.port}" if parts.port else ""
    if host.startswith(f"{sandbox_id}."):
        name = f"{port}-{host}"
    else:
        # Of a host that has no names for its sandboxes. Browsers know that this is themselves.
        loopback = host in ("localhost", "::1") or host.startswith("127.")
        name = f"{port}-{sandbox_id}.{'localhost' if loopback else host}"
    return f"{parts.scheme}://{name}{rest}"
