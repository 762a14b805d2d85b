"""What went wrong, for whoever has typed the command: one line, the next step, a stable status."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import click

from longshore._errors import (
    ProcessNotFoundError,
    SandboxConnectionError,
    SandboxError,
    SandboxFileNotFoundError,
    SandboxIsADirectoryError,
    SandboxNotADirectoryError,
    SandboxNotFoundError,
    SandboxPermissionError,
    SandboxTerminatedError,
    SandboxTimeoutError,
)
from longshore._refusal import CONFIG_STATUS, Refusal
from longshore._sandboxes.plain import plain

ErrorT = TypeVar("ErrorT", bound=Exception)
FAILED: Final = 1
NOT_FOUND: Final = 3
ENDED: Final = 4
NO_ANSWER: Final = 5
_SERVERS: Final = frozenset({"create", "info", "list", "delete", "attach"})
"""What is asked of the server; all else is asked of a sandbox."""
_UNAUTHENTICATED: Final = frozenset({"UNAUTHENTICATED", "HTTP_401", "HTTP_403"})
_STEPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ALREADY_EXISTS": "remove what is there, or choose another path",
        "BAD_ANSWER": "check --api-url",
        "CAPACITY_EXHAUSTED": "end others with `longshore sandbox rm`, or ask for less",
        "DISK_FULL": "remove what it no longer needs, or create one with more --disk",
        "IDEMPOTENCY_MISMATCH": "ask for the same as before, or give another --idempotency-key",
        "INTERNAL_ERROR": "look for the request in the logs of server and worker",
        "NAME_TAKEN": "end what has it, or choose another",
        "SPAWN_FAILED": "see what the sandbox has: `longshore sandbox exec SANDBOX ls /`",
        "TOO_MANY_SESSIONS": "end a terminal, or wait until one has ended",
    }
)
"""What to do about an error that says nothing of that itself."""


_ABOUT_FILES: Final = (
    SandboxFileNotFoundError,
    SandboxIsADirectoryError,
    SandboxNotADirectoryError,
    SandboxPermissionError,
)


def complain(error: SandboxError) -> None:
    """One line on stderr."""
    step = next_step(error)
    # One whose cause nobody here can name is looked for in the logs.
    where = f" ({error.code}, request {error.request_id})" if _is_internal(error) else ""
    said = f"error: {error.message}{where}" + (f"; {step}" if step else "")
    click.echo(plain(said), err=True)


def refused(group: BaseExceptionGroup[ValueError]) -> Refusal:
    """What the SDK says of a value that it does not take: the caller's to change."""
    return Refusal(plain(str(_leaf(group))))


def first(group: BaseExceptionGroup[SandboxError]) -> SandboxError:
    """What has happened first, of what has happened at once."""
    return _leaf(group)


def _leaf(group: BaseExceptionGroup[ErrorT]) -> ErrorT:
    inner = group.exceptions[0]
    return _leaf(inner) if isinstance(inner, BaseExceptionGroup) else inner


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
    if error.code in _STEPS:
        return _STEPS[error.code].replace("SANDBOX", error.sandbox_id or "SANDBOX")
    if error.code.startswith("HTTP_"):
        return "that is no answer of Longshore's: check --api-url, and what is in front of it"
    if isinstance(error, _ABOUT_FILES):
        sandbox = error.sandbox_id or "SANDBOX"
        return f"see what is there: `longshore sandbox exec {sandbox} ls -la`"
    return "try again" if error.retryable else ""


def _is_internal(error: SandboxError) -> bool:
    return error.code in ("INTERNAL_ERROR", "BAD_ANSWER") or error.code.startswith("HTTP_5")
