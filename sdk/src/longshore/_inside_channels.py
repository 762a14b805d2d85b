"""What a `Sandbox` gives away for bytes both ways at once: terminals, tunnels to ports."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from longshore._carrier import finish
from longshore._errors import SandboxError, SandboxNotFoundError, SandboxTerminatedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore._terminals import TerminalSession, TunnelSession


class Terminal:
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

    def read(self, *, timeout: float | None = None) -> bytes:
        """What is shown next; empty when the program has ended.

        Raises SandboxTimeoutError after so many seconds; it can be read on then.
        """
        return finish(self._session.read(timeout))

    def write(self, data: bytes | str) -> None:
        """Type: `"ls\\n"`, or `"\\x03"` for Ctrl-C. Raises ProcessNotFoundError after its end."""
        finish(self._session.write(data))

    def resize(self, *, columns: int, rows: int) -> None:
        """Make it as large as that; the program is told."""
        finish(self._session.resize(columns, rows))

    def wait(self) -> int:
        """The exit code, once the program has ended; what is shown until then is passed over."""
        return finish(self._session.wait())

    def close(self) -> None:
        """Hang up: the program is ended by SIGHUP, or after five seconds by SIGKILL. Idempotent."""
        finish(self._session.end())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = finish(self._session.read())
        if not piece:
            raise StopIteration
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            finish(self._session.end(error))
        except (SandboxTerminatedError, SandboxNotFoundError):
            # Its sandbox has ended, and it with that.
            return
        except SandboxError as exc:
            if error is None:
                raise
            error.add_note(f"and then: {exc}")


class Tunnel:
    """A TCP connection to a port inside. One may read while another writes.

    Iterating over it gives what comes, until the other side has finished.
    """

    def __init__(self, session: TunnelSession) -> None:
        self._session = session

    def read(self) -> bytes:
        """What comes next; empty when the other side has finished."""
        return finish(self._session.read())

    def write(self, data: bytes) -> None:
        """Send, as fast as the other side takes it."""
        finish(self._session.write(data))

    def close(self) -> None:
        """Hang up; what was written before still arrives. Idempotent."""
        finish(self._session.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = finish(self._session.read())
        if not piece:
            raise StopIteration
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
