"""Programs at a terminal of their own, and ports, both by messages of the daemon's."""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from time import monotonic
from typing import Final

from longshore._calls import Patience
from longshore._carrier import Carrier
from longshore._channel import Channel
from longshore._deadline import cleaning_up, deadline
from longshore._errors import ProcessNotFoundError, SandboxConnectionError, SandboxError
from longshore._line import Ask, Line
from longshore._screen import Screen, check_size
from longshore._server import CLEANUP_SECONDS
from longshore._websocket import NORMAL, Closed

_DATA: Final = b"\0"
_RESIZE: Final = Struct(">BHH")
_READY: Final = b"\2"
_GOING_AWAY: Final = 1001
_PIECE: Final = 32 << 10
_BYTES_PER_SECOND: Final = 512 << 10
"""Half of what the daemon takes for somebody typing."""


class TerminalSession:
    """One program at one terminal."""

    def __init__(self, line: Line, session_id: str, token: str) -> None:
        self.session_id: str = session_id
        self.exit_code: int | None = None
        self._line = line
        self._pace = _Pace(line.carrier)
        self._is_over = False
        path, headers = f"/pty/{session_id}/ws", {"X-PTY-Token": token}
        self._channel = Channel(
            line, Ask(method="GET", path=path, phase="terminal", headers=headers)
        )

    @classmethod
    async def open(cls, line: Line, screen: Screen) -> TerminalSession:
        """Start the program, and look on."""
        ask = Ask(
            method="POST",
            path="/pty",
            phase="terminal",
            json=screen.body(),
            repeatable=False,
            keyed=True,
        )
        fields = (await line.ask(ask)).fields()
        session = cls(line, fields.required("session_id", str), fields.required("token", str))
        try:
            await session._channel.open()
            await session._channel.send(_READY)
        except BaseException as exc:
            with suppress(SandboxError):
                await session.end(exc)
            raise
        return session

    async def read(self, seconds: float | None = None) -> bytes:
        """What is shown next; empty when the program has ended. Raises SandboxError."""
        if seconds is not None:
            with deadline(seconds):
                return await self._read()
        return await self._read()

    async def _read(self) -> bytes:
        while not self._is_over:
            message = await self._channel.receive()
            if message is None:
                assert self._channel.closed is not None
                self.exit_code = await self._outcome(self._channel.closed)
                self._is_over = True
            elif message[:1] == _DATA and len(message) > 1:
                return message[1:]
        return b""

    async def wait(self) -> int:
        """The exit code, once the program has ended; what is shown until then is passed over."""
        while await self.read():
            continue
        assert self.exit_code is not None
        return self.exit_code

    async def write(self, data: bytes | str) -> None:
        """As if it were typed. Raises ProcessNotFoundError when nobody is there any more."""
        rest = data.encode() if isinstance(data, str) else data
        while rest:
            piece, rest = rest[:_PIECE], rest[_PIECE:]
            await self._pace.wait(len(piece))
            await self._send(_DATA + piece)

    async def resize(self, columns: int, rows: int) -> None:
        check_size(columns, rows)
        await self._send(_RESIZE.pack(1, columns, rows))

    async def _send(self, message: bytes) -> None:
        if self._is_over:
            raise self._error(ProcessNotFoundError, "NOT_RUNNING", "the program has ended")
        await self._channel.send(message)

    async def _outcome(self, closed: Closed) -> int:
        """The exit code: minus the number of the signal that ended it."""
        how, _, code = closed.reason.partition(":")
        if closed.code == NORMAL and how == "exit" and code.lstrip("-").isdecimal():
            return int(code) if int(code) >= 0 else await self._signal()
        if closed.code == _GOING_AWAY:
            await self._line.diagnose(Patience())
            message = f"somebody has ended it: {closed.reason}"
            raise self._error(ProcessNotFoundError, "NOT_RUNNING", message)
        message = f"the sandbox has hung up: {closed.reason or closed.code}"
        raise self._error(SandboxConnectionError, "CONNECTION_LOST", message)

    async def _signal(self) -> int:
        path = f"/pty/{self.session_id}"
        answer = await self._line.ask(Ask(method="GET", path=path, phase="terminal"))
        return -(answer.fields().get("signal", int) or 1)

    def _error(self, kind: type[SandboxError], code: str, message: str) -> SandboxError:
        return kind(code, message, sandbox_id=self._line.sandbox_id, phase="terminal")

    async def end(self, error: BaseException | None = None) -> None:
        """Hang up, as a terminal does whose window is closed. Idempotent."""
        await self._line.carrier.finally_do(self._end(error), CLEANUP_SECONDS + 1)

    async def _end(self, error: BaseException | None) -> None:
        with cleaning_up(CLEANUP_SECONDS):
            try:
                if not self._is_over:
                    path = f"/pty/{self.session_id}"
                    ask = Ask(method="DELETE", path=path, phase="terminal")
                    await self._line.ask(ask, Patience.after(error))
            except ProcessNotFoundError:
                # It has ended for so long that nobody remembers it.
                return
            finally:
                self._is_over = True
                await self._channel.close()


class TunnelSession:
    """One TCP connection to a port inside."""

    def __init__(self, line: Line, port: int) -> None:
        path = f"/tunnels/tcp?port={port}"
        self._channel = Channel(line, Ask(method="GET", path=path, phase="tunnel"))
        self._line = line

    @classmethod
    async def open(cls, line: Line, port: int) -> TunnelSession:
        session = cls(line, port)
        await session._channel.open()
        return session

    async def read(self) -> bytes:
        """What comes next; empty when the other side has finished. Raises SandboxError."""
        while (message := await self._channel.receive()) is not None:
            if message:
                return message
        closed = self._channel.closed
        if closed is not None and closed.code != NORMAL:
            why = f"the connection inside has broken: {closed.reason or closed.code}"
            sandbox_id = self._line.sandbox_id
            raise SandboxConnectionError(
                "CONNECTION_LOST", why, sandbox_id=sandbox_id, phase="tunnel"
            )
        return b""

    async def write(self, data: bytes) -> None:
        """As soon as the other side takes it. Raises SandboxError."""
        rest = memoryview(data)
        while rest:
            await self._channel.send(bytes(rest[:_PIECE]))
            rest = rest[_PIECE:]

    async def close(self) -> None:
        """Hang up; what was written before still arrives. Idempotent."""
        await self._line.carrier.finally_do(self._close(), CLEANUP_SECONDS)

    async def _close(self) -> None:
        with cleaning_up(CLEANUP_SECONDS):
            try:
                if self._channel.closed is None:
                    await self._channel.say_goodbye()
            except SandboxError:
                # It is broken already, as whoever read or wrote has been told.
                return
            finally:
                await self._channel.close()


class _Pace:
    """No faster than the daemon believes that anybody types or pastes."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._free_at = 0.0

    async def wait(self, size: int) -> None:
        now = monotonic()
        # Half a second's worth may come at once.
        ahead = max(self._free_at, now - 0.5) - now
        self._free_at = max(self._free_at, now - 0.5) + size / _BYTES_PER_SECOND
        if ahead > 0:
            await self._carrier.sleep(ahead)
