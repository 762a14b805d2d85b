"""What an `AsyncSandbox` gives away for bytes both ways at once: terminals, tunnels to ports."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from longshore._errors import SandboxError, SandboxNotFoundError, SandboxTerminatedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore._terminals import TerminalSession, TunnelSession


class AsyncTerminal:
    """A program at a terminal of its own. As a context manager, it is hung up on at the end.

    Iterating over it gives what it shows, as it comes, until the program has ended. One may read
    while another writes.
    """

    def __init__(self, session: TerminalSession) -> None:
        self._session = session

    @property
    def exit_code(self) -> int | None:
        """Known at the end: minus the signal's number if one has ended it."""
        return self._session.exit_code

    async def read(self, *, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # as in `_inside_channels`
        """What is shown next; empty when the program has ended.

        Raises SandboxTimeoutError after so many seconds; it can be read on then.
        """
        return await self._session.read(timeout)

    async def write(self, data: bytes | str) -> None:
        """Type: `"ls\\n"`, or `"\\x03"` for Ctrl-C. Raises ProcessNotFoundError after its end."""
        await self._session.write(data)

    async def resize(self, *, columns: int, rows: int) -> None:
        """Make it as large as that; the program is told."""
        await self._session.resize(columns, rows)

    async def wait(self) -> int:
        """The exit code, once the program has ended; what is shown until then is passed over."""
        return await self._session.wait()

    async def close(self) -> None:
        """Hang up: the program is ended by SIGHUP, or after five seconds by SIGKILL. Idempotent."""
        await self._session.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._session.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._session.end(error)
        except (SandboxTerminatedError, SandboxNotFoundError):
            # Its sandbox has ended, and it with that.
            return
        except SandboxError as exc:
            if error is None:
                raise
            error.add_note(f"and then: {exc}")


class AsyncTunnel:
    """A TCP connection to a port inside. One may read while another writes.

    Iterating over it gives what comes, until the other side has finished.
    """

    def __init__(self, session: TunnelSession) -> None:
        self._session = session

    async def read(self) -> bytes:
        """What comes next; empty when the other side has finished."""
        return await self._session.read()

    async def write(self, data: bytes) -> None:
        """Send, as fast as the other side takes it."""
        await self._session.write(data)

    async def close(self) -> None:
        """Hang up; what was written before still arrives. Idempotent."""
        await self._session.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._session.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
