"""What the SDK raises: one root, and under it the builtin that an experienced reader would expect.

SandboxError
├── SandboxNotFoundError            there is no such sandbox
├── SandboxTerminatedError          it has ended; the message says why
├── SandboxTimeoutError             (TimeoutError) a deadline has passed
├── SandboxConnectionError          (ConnectionError) the other side cannot be reached, or hung up
├── SandboxFileNotFoundError        (FileNotFoundError)
├── SandboxFileExistsError          (FileExistsError)
├── SandboxPermissionError          (PermissionError)
├── SandboxIsADirectoryError        (IsADirectoryError)
├── SandboxNotADirectoryError       (NotADirectoryError)
├── ProcessNotFoundError            (ProcessLookupError) there is no such process, or no more
├── StdinClosedError                (BrokenPipeError) nobody reads there
└── CommandError                    a command that was to succeed did not; has its result
    └── CommandTimeoutError         (TimeoutError) since its timeout ended it
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, Self

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore._model import Result


class SandboxError(Exception):
    """Anything that goes wrong with a sandbox. Match on the class, or on `code`, which is stable.

    `retryable` says whether the same call may succeed later without anybody acting, and does no
    harm: it is False for what may have been done already, such as a command of which nobody knows
    whether it has started. `request_id` is what the logs of server and proxy have of it, `phase`
    what was being done, such as `files.read`. Whatever caused it is its `__cause__`.
    """

    _errno: ClassVar[int | None] = None

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        request_id: str | None = None,
        sandbox_id: str | None = None,
        phase: str | None = None,
    ) -> None:
        # Those that are an OSError as well want its two arguments, and set `errno` from them.
        super().__init__(*((message,) if self._errno is None else (self._errno, message)))
        self.code = code
        self.message = message
        self.retryable = retryable
        self.request_id = request_id
        self.sandbox_id = sandbox_id
        self.phase = phase

    def __str__(self) -> str:
        context = {"sandbox": self.sandbox_id, "request": self.request_id}
        known = [f"{name} {value}" for name, value in context.items() if value]
        return f"{self.message} ({', '.join([self.code, *known])})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r}, phase={self.phase!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by `args`, as exceptions are otherwise: most of what this one knows is not in them.
        return _restored, (type(self), self.__dict__.copy())

    @classmethod
    def _restore(cls, state: dict[str, Any]) -> Self:
        error = cls(state.pop("code"), state.pop("message"))
        error.__dict__.update(state)
        return error


def _restored(kind: type[SandboxError], state: dict[str, Any]) -> SandboxError:
    return kind._restore(state)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # pickle's entrance, of this file


class SandboxNotFoundError(SandboxError):
    """There is no sandbox of that id; it may have been removed."""


class SandboxTerminatedError(SandboxError):
    """The sandbox has ended; the message has its outcome. Nothing more can be done with it."""


class SandboxTimeoutError(SandboxError, TimeoutError):
    """A deadline has passed. What was asked for may still be done."""

    _errno = errno.ETIMEDOUT


class SandboxConnectionError(SandboxError, ConnectionError):
    """Server, proxy or sandbox cannot be reached, or hung up in the middle."""

    _errno = errno.ECONNABORTED


class SandboxFileNotFoundError(SandboxError, FileNotFoundError):
    """No file of that name is in the sandbox."""

    _errno = errno.ENOENT


class SandboxFileExistsError(SandboxError, FileExistsError):
    """Something of that name is in the sandbox already."""

    _errno = errno.EEXIST


class SandboxPermissionError(SandboxError, PermissionError):
    """The caller may not do that: a path inside, or an API key that is missing or wrong."""

    _errno = errno.EACCES


class SandboxIsADirectoryError(SandboxError, IsADirectoryError):
    """The path is a directory where a file was expected."""

    _errno = errno.EISDIR


class SandboxNotADirectoryError(SandboxError, NotADirectoryError):
    """The path is not a directory."""

    _errno = errno.ENOTDIR


class ProcessNotFoundError(SandboxError, ProcessLookupError):
    """There is no such process in the sandbox, or it has ended."""

    _errno = errno.ESRCH


class StdinClosedError(SandboxError, BrokenPipeError):
    """The process does not read its input: it was started without one, closed it or has ended."""

    _errno = errno.EPIPE


class CommandError(SandboxError):
    """A command that was to succeed did not. `result` has all that is known of it."""

    result: Result

    @classmethod
    def of(cls, result: Result, sandbox_id: str | None = None) -> CommandError:
        """The error that says how this command has failed."""
        kind, code = (
            (CommandTimeoutError, "COMMAND_TIMED_OUT")
            if result.timed_out
            else (CommandError, "COMMAND_FAILED")
        )
        error = kind(code, result.summary, sandbox_id=sandbox_id, phase="run")
        error.result = result
        return error


class CommandTimeoutError(CommandError, TimeoutError):
    """A command that was to succeed was ended by its timeout."""

    _errno = errno.ETIMEDOUT
