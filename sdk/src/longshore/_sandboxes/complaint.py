"""What went wrong, for whoever has typed the command: one line, the next step, a stable status."""

from __future__ import annotations

from typing import Final

import click

from longshore._errors import (
    ProcessNotFoundError,
    SandboxConnectionError,
    SandboxError,
    SandboxFileNotFoundError,
    SandboxNotFoundError,
    SandboxPermissionError,
    SandboxTerminatedError,
    SandboxTimeoutError,
)
from longshore._refusal import CONFIG_STATUS

FAILED: Final = 1
NOT_FOUND: Final = 3
ENDED: Final = 4
NO_ANSWER: Final = 5
_SERVERS: Final = frozenset({"create", "info", "list", "delete", "attach"})
"""What is asked of the server; all else is asked of a sandbox."""
_UNAUTHENTICATED: Final = frozenset({"UNAUTHENTICATED", "HTTP_401", "HTTP_403"})


def complain(error: SandboxError) -> None:
    """One line on stderr."""
    step = next_step(error)
    # One whose cause nobody here can name is looked for in the logs.
    where = f" ({error.code}, request {error.request_id})" if _is_internal(error) else ""
    click.echo(f"error: {error.message}{where}" + (f"; {step}" if step else ""), err=True)


def first(group: BaseExceptionGroup[SandboxError]) -> SandboxError:
    """What has happened first, of what has happened at once."""
    inner = group.exceptions[0]
    return first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def status_of(error: SandboxError) -> int:
    if error.code in _UNAUTHENTICATED:
        return CONFIG_STATUS
    if isinstance(error, SandboxTerminatedError):
        return ENDED
    if isinstance(error, SandboxNotFoundError | SandboxFileNotFoundError | ProcessNotFoundError):
        return NOT_FOUND
    if isinstance(error, SandboxConnectionError | SandboxTimeoutError):
        return NO_ANSWER
    return FAILED


def next_step(error: SandboxError) -> str:
    """What to do about it; empty when the message says it all."""
    if isinstance(error, SandboxNotFoundError):
        return "see `longshore sandbox ls`"
    if isinstance(error, SandboxTerminatedError):
        return "see `longshore sandbox show`, or make another with `longshore sandbox create`"
    if isinstance(error, SandboxPermissionError) and error.code in _UNAUTHENTICATED:
        return "set LONGSHORE_API_KEY, or give --api-key-file"
    if isinstance(error, SandboxConnectionError) and error.phase in _SERVERS:
        return "start a system with `longshore up`, or name yours with --api-url"
    return "try again" if error.retryable else ""


def _is_internal(error: SandboxError) -> bool:
    return error.code in ("INTERNAL_ERROR", "BAD_ANSWER") or error.code.startswith("HTTP_5")
