"""How a request becomes an answer or a SandboxError: repeated while that is safe, never for long.

A request is repeated when nobody can have acted on it, or when acting twice is the same as once,
and for so short a time that whoever waits learns within two seconds of what has happened.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, TypeVar
from uuid import uuid4

from longshore import __version__
from longshore._answers import Answer
from longshore._carrier import Carrier, CarryError, Request, Source, Stream
from longshore._deadline import check_deadline, remaining
from longshore._errors import SandboxConnectionError, SandboxError, SandboxTimeoutError
from longshore._live import open_live
from longshore._model import Endpoint

ResultT = TypeVar("ResultT")
PATIENCE_SECONDS: Final = 1.5
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.2
_ERROR_BYTES: Final = 64 << 10
_SERVERS_FAULT: Final = 500
UNTOUCHED: Final = frozenset(
    {
        "CONNECTION_REFUSED",
        "NOT_RELEASED",
        "ROUTES_UNKNOWN",
        "SANDBOX_NOT_RUNNING",
        "SHUTTING_DOWN",
        "CONNECTION_FAILED",
    }
)
"""Who answers so has passed nothing on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the server is, and who asks."""

    api_url: str
    namespace: str
    api_key: str | None = field(repr=False)

    @classmethod
    def of(cls, endpoint: Endpoint) -> Settings:
        """From what the caller says, then from the environment. Raises ValueError."""
        url = endpoint.get("api_url") or os.environ.get("LONGSHORE_API_URL")
        key = endpoint.get("api_key") or os.environ.get("LONGSHORE_API_KEY") or None
        if url is None and (url := os.environ.get("TENSORLAKE_API_URL")):
            # A key is for that server, and for no other.
            key = key or os.environ.get("TENSORLAKE_API_KEY") or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ValueError("the API key cannot be sent: it has characters beyond ASCII")
        namespace = (
            endpoint.get("namespace")
            or os.environ.get("LONGSHORE_NAMESPACE")
            or os.environ.get("INDEXIFY_NAMESPACE")
        )
        return cls(
            api_url=(url or "http://127.0.0.1:8900").rstrip("/"),
            namespace=namespace or "default",
            api_key=key,
        )


def named_in_environment() -> bool:
    """Whether the environment says where the server is."""
    return any(os.environ.get(name) for name in ("LONGSHORE_API_URL", "TENSORLAKE_API_URL"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is to be sent, and how often that may happen."""

    method: str
    url: str
    phase: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Source | None = field(default=None, repr=False)
    repeatable: bool = True
    """Whether acting on it twice is the same as once."""
    keyed: bool = False
    """Whether it is so for whoever heeds its idempotency key."""
    once: bool = False
    """Whoever calls repeats it himself, or not at all."""
    silence_seconds: float = 65.0
    live: bool = False
    """Its answer is waited on for long, and a wait may end while the answer goes on."""

    @property
    def can_be_sent_again(self) -> bool:
        return not self.once and (self.body is None or isinstance(self.body, bytes))


class Failure(Exception):
    """One attempt has come to nothing."""

    def __init__(self, error: SandboxError, *, untouched: bool, refused: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.untouched = untouched
        """Whether nobody can have acted on the request."""
        self.refused = refused
        """Somebody has looked at it, and not acted on it."""


class Patience:
    """Little of it, from the first failure on."""

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self.unclear: bool = False
        """Whether somebody may have acted on one of the attempts."""

    @classmethod
    def after(cls, error: BaseException | None) -> Patience:
        """None is left of it when somebody has just waited in vain for the same ones."""
        return cls(0.0) if isinstance(error, SandboxConnectionError) else cls()

    @property
    def left(self) -> float:
        if self._until is None:
            self._until = monotonic() + self._seconds
        return max(0.0, min(self._until - monotonic(), remaining()))

    async def wait(self, carrier: Carrier) -> bool:
        """Pause before the next attempt. False: there must be none."""
        pause = min(self._pause, self.left)
        if not pause:
            return False
        await carrier.sleep(pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An answer that has begun well. Its stream is the caller's to close."""

    stream: Stream
    request_id: str


class Caller:
    """Makes calls, to the server or, when it has one, concerning a sandbox."""

    def __init__(
        self,
        carrier: Carrier,
        sandbox_id: str | None = None,
        explain: Callable[[Failure, Patience], Awaitable[None]] | None = None,
    ) -> None:
        self.carrier = carrier
        self.sandbox_id = sandbox_id
        self.heeds_keys = False
        """Whether who is called is known to heed idempotency keys."""
        self._explain = explain
        """Asked after each failure; raises what is known better than what failed."""

    async def ask(self, call: Call, patience: Patience | None = None) -> Answer:
        """The whole answer. Raises SandboxError for one that is no success."""
        return await self.repeat(call, self._ask_once, patience or Patience())

    async def open(self, call: Call, patience: Patience | None = None) -> Opened:
        """The answer, its body still to come. Raises SandboxError for one that is no success."""
        return await self.repeat(call, self.open_once, patience or Patience())

    async def repeat(
        self,
        call: Call,
        attempt: Callable[[Call], Awaitable[ResultT]],
        patience: Patience,
    ) -> ResultT:
        """Attempt it until it does not raise Failure, or must not be repeated."""
        while True:
            check_deadline(call.phase, self.sandbox_id)
            try:
                return await attempt(call)
            except Failure as failure:
                if not (failure.untouched or failure.refused):
                    patience.unclear = True
                if self._explain is not None:
                    await self._explain(failure, patience)
                repeatable = self.may_repeat(call)
                again = failure.untouched or (
                    # Who has waited for long enough does not begin anew.
                    repeatable and failure.error.retryable and failure.error.code != "TIMEOUT"
                )
                if not (again and call.can_be_sent_again and await patience.wait(self.carrier)):
                    if patience.unclear and not call.repeatable:
                        # Whoever heeds that it is worth another try might do it a second time.
                        failure.error.retryable = False
                    # Of the two, the caller is told the cause beneath it.
                    raise failure.error from failure.__cause__

    def may_repeat(self, call: Call) -> bool:
        """Whether it may be sent again although somebody may have acted on it."""
        return call.repeatable or (call.keyed and self.heeds_keys)

    async def _ask_once(self, call: Call) -> Answer:
        opened = await self.open_once(call)
        return await self.read_whole(call, opened)

    async def read_whole(self, call: Call, opened: Opened) -> Answer:
        """All of an answer's body. Raises Failure."""
        pieces: list[bytes] = []
        try:
            while piece := await self._read(call, opened):
                pieces.append(piece)
                check_deadline(call.phase, self.sandbox_id)
        finally:
            await opened.stream.close()
        return self._answer(call, opened, b"".join(pieces))

    async def open_once(self, call: Call) -> Opened:
        """Send it, once. Raises Failure."""
        opened = await self.send(call)
        if opened.stream.status < 400:
            return opened
        raise self.refused(self._answer(call, opened, await self._complaint(call, opened)))

    def refused(self, answer: Answer) -> Failure:
        """What an answer means that is no success."""
        error = answer.error()
        # The proxy may hear of a sandbox a moment later than who asks for it.
        unknown = error.code == "SANDBOX_NOT_FOUND" and self._explain is not None
        untouched = unknown or error.code in UNTOUCHED
        return Failure(error, untouched=untouched, refused=answer.status < _SERVERS_FAULT)

    async def send(self, call: Call) -> Opened:
        """Send it, once, and take whatever comes as the answer. Raises Failure."""
        request_id = new_request_id()
        request = Request(
            method=call.method,
            url=call.url,
            headers={**own_headers(request_id), "Accept-Encoding": "identity", **call.headers},
            body=call.body,
            silence_seconds=call.silence_seconds,
        )
        try:
            opening = open_live(self.carrier, request) if call.live else self.carrier.open(request)
            return Opened(stream=await opening, request_id=request_id)
        except CarryError as exc:
            raise self.failure(call, request_id, exc) from exc

    async def _complaint(self, call: Call, opened: Opened) -> bytes:
        body = b""
        try:
            while len(body) < _ERROR_BYTES and (piece := await self._read(call, opened)):
                body += piece
        finally:
            await opened.stream.close()
        return body

    async def _read(self, call: Call, opened: Opened) -> bytes:
        try:
            return await opened.stream.read()
        except CarryError as exc:
            raise self.failure(call, opened.request_id, exc) from exc

    def failure(self, call: Call, request_id: str, exc: CarryError) -> Failure:
        """What it means for a call that it did not come through."""
        kind: type[SandboxError] = SandboxTimeoutError
        message = f"{call.phase}: {exc} ({call.method} {call.url.partition('?')[0]})"
        if not remaining():
            code, message = "DEADLINE_EXCEEDED", f"the deadline has passed during {call.phase}"
        elif exc.silent:
            code = "TIMEOUT"
        else:
            code = "CONNECTION_LOST" if exc.sent else "CONNECTION_FAILED"
            kind = SandboxConnectionError
        error = kind(
            code,
            message,
            retryable=code != "DEADLINE_EXCEEDED",
            request_id=request_id,
            sandbox_id=self.sandbox_id,
            phase=call.phase,
        )
        return Failure(error, untouched=not exc.sent)

    def _answer(self, call: Call, opened: Opened, body: bytes) -> Answer:
        return Answer(
            status=opened.stream.status,
            headers=opened.stream.headers,
            body=body,
            request_id=opened.request_id,
            sandbox_id=self.sandbox_id,
            phase=call.phase,
        )


def new_request_id() -> str:
    return uuid4().hex


def own_headers(request_id: str) -> dict[str, str]:
    """Who we are, and by which name the logs know what we ask."""
    return {"User-Agent": f"longshore-python/{__version__}", "X-Request-Id": request_id}
