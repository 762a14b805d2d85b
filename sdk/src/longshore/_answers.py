"""What server, proxy and daemon answer, read with care: into values, or into the error it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote_to_bytes

from longshore._errors import (
    ProcessNotFoundError,
    SandboxConnectionError,
    SandboxError,
    SandboxFileExistsError,
    SandboxFileNotFoundError,
    SandboxIsADirectoryError,
    SandboxNotADirectoryError,
    SandboxNotFoundError,
    SandboxPermissionError,
    SandboxTerminatedError,
    SandboxTimeoutError,
    StdinClosedError,
)
from longshore._model import (
    FileInfo,
    FileKind,
    FileStat,
    GuestInfo,
    ProcessInfo,
    SandboxInfo,
    Status,
)

T = TypeVar("T")
_KINDS: Final[Mapping[str, type[SandboxError]]] = {
    "SANDBOX_NOT_FOUND": SandboxNotFoundError,
    "SANDBOX_FAILED": SandboxTerminatedError,
    "TIMEOUT": SandboxTimeoutError,
    "CONNECTION_TIMEOUT": SandboxTimeoutError,
    "READ_TIMEOUT": SandboxTimeoutError,
    "WRITE_TIMEOUT": SandboxTimeoutError,
    "REQUEST_TIMEOUT": SandboxTimeoutError,
    "CONNECTION_REFUSED": SandboxConnectionError,
    "CONNECTION_CLOSED": SandboxConnectionError,
    "PERMISSION_DENIED": SandboxPermissionError,
    "PATH_TRAVERSAL": SandboxPermissionError,
    "UNAUTHENTICATED": SandboxPermissionError,
    "IS_DIRECTORY": SandboxIsADirectoryError,
    "NOT_A_DIRECTORY": SandboxNotADirectoryError,
    "STDIN_NOT_WRITABLE": StdinClosedError,
    "ALREADY_EXISTS": SandboxFileExistsError,
    "NOT_RUNNING": ProcessNotFoundError,
}
_RETRYABLE: Final = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, and what it was an answer to."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    sandbox_id: str | None
    phase: str

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The object that its body is. Raises SandboxError."""
        try:
            value = json.loads(self.body)
        except ValueError as exc:
            raise self._unreadable("no JSON") from exc
        if not isinstance(value, dict):
            raise self._unreadable("no JSON object")
        return cast("dict[str, Any]", value)

    def fields(self) -> Fields:
        """Raises SandboxError."""
        return Fields(self, self.json())

    def _unreadable(self, what: str) -> SandboxError:
        return SandboxError(
            "BAD_ANSWER",
            f"the answer to {self.phase} is {what}; is that a server of Longshore's?",
            request_id=self.request_id,
            sandbox_id=self.sandbox_id,
            phase=self.phase,
        )

    def code(self) -> str:
        """The error's code; `HTTP_502` and its like when it is somebody else's answer."""
        return str(self._complaint().get("code") or f"HTTP_{self.status}")

    def error(self) -> SandboxError:
        """What it says went wrong."""
        complaint, code = self._complaint(), self.code()
        # Of a page in front of us, what it says and not how it is laid out.
        page = " ".join(self.body[:200].decode("utf-8", "replace").split())
        message = str(complaint.get("message") or page)
        return self._kind(code)(
            code,
            message.strip() or f"answered {self.status}",
            retryable=bool(complaint.get("retryable", self.status in _RETRYABLE)),
            request_id=str(complaint.get("request_id") or self.request_id),
            sandbox_id=self.sandbox_id or _text_or_none(complaint.get("sandbox_id")),
            phase=self.phase,
        )

    def _complaint(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    def _kind(self, code: str) -> type[SandboxError]:
        if code == "NOT_FOUND":
            return SandboxFileNotFoundError if "files" in self.phase else ProcessNotFoundError
        if code in ("HTTP_401", "HTTP_403"):
            return SandboxPermissionError
        return _KINDS.get(code, SandboxError)


class Fields:
    """The members of an object in an answer. Each method raises SandboxError naming the member."""

    def __init__(self, answer: Answer, values: Mapping[str, Any]) -> None:
        self._answer = answer
        self._values = values

    def required(self, name: str, kind: type[T]) -> T:
        value = self.get(name, kind)
        if value is None:
            raise self._wrong(name)
        return value

    def get(self, name: str, kind: type[T]) -> T | None:
        value = self._values.get(name)
        if value is None:
            return None
        # To Python, truth is a number.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(name)
        return value

    def number(self, name: str) -> float:
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name)
        return float(value)

    def count(self, name: str, most: int) -> int:
        value = self.required(name, int)
        if not 0 <= value <= most:
            raise self._wrong(name)
        return value

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def time(self, name: str) -> datetime | None:
        """From milliseconds since 1970."""
        ms = self.get(name, int)
        return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)

    def required_time(self, name: str) -> datetime:
        time = self.time(name)
        if time is None:
            raise self._wrong(name)
        return time

    def path(self, name: str) -> str:
        """A name of the file system; what is not UTF-8 in it comes in a form of its own."""
        encoded = self.get(f"{name}_encoded", str)
        return (
            self.required(name, str) if encoded is None else os.fsdecode(unquote_to_bytes(encoded))
        )

    def octal(self, name: str) -> int:
        digits = self.required(name, str)
        if not digits or digits.strip("01234567"):
            raise self._wrong(name)
        return int(digits, 8)

    def objects(self, name: str) -> list[Fields]:
        return [self._inner(name, value) for value in self._members(name)]

    def inner(self, name: str) -> Fields:
        return self._inner(name, self._values.get(name))

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(str(value) for value in self._members(name))

    def _members(self, name: str) -> list[Any]:
        # Neither checker knows what is in it, and they differ on how to say so.
        return [*self.required(name, list)]

    def _inner(self, name: str, value: Any) -> Fields:
        if not isinstance(value, dict):
            raise self._wrong(name)
        return Fields(self._answer, cast("dict[str, Any]", value))

    def _wrong(self, name: str) -> SandboxError:
        return SandboxError(
            "BAD_ANSWER",
            f"the answer to {self._answer.phase} has no {name} that could be used",
            request_id=self._answer.request_id,
            sandbox_id=self._answer.sandbox_id,
            phase=self._answer.phase,
        )


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def sandbox_info(fields: Fields) -> SandboxInfo:
    resources, failed = fields.inner("resources"), fields.has("error_details")
    return SandboxInfo(
        id=fields.get("id", str) or fields.required("sandbox_id", str),
        namespace=fields.required("namespace", str),
        status=cast("Status", fields.required("status", str)),
        image=fields.required("image", str),
        created_at=fields.required_time("created_at"),
        cpus=resources.number("cpus"),
        memory_mb=resources.required("memory_mb", int),
        disk_mb=resources.required("disk_mb", int),
        lifetime_seconds=fields.required("timeout_secs", int),
        name=fields.get("name", str),
        sandbox_url=fields.get("sandbox_url", str),
        pending_reason=fields.get("pending_reason", str),
        outcome=fields.get("outcome", str),
        error=fields.inner("error_details").get("message", str) if failed else None,
        exit_code=fields.get("exit_code", int),
        terminated_at=fields.time("terminated_at"),
    )


def guest_info(fields: Fields) -> GuestInfo:
    return GuestInfo(
        version=fields.required("version", str),
        uptime_seconds=fields.required("uptime_secs", int),
        running_processes=fields.required("running_processes", int),
        total_processes=fields.required("total_processes", int),
    )


def process_info(fields: Fields) -> ProcessInfo:
    signal = fields.get("signal", int)
    return ProcessInfo(
        pid=fields.required("pid", int),
        command=(fields.required("command", str), *fields.texts("args")),
        running=fields.required("status", str) == "running",
        exit_code=fields.get("exit_code", int) if signal is None else -signal,
        timed_out=bool(fields.get("timed_out", bool)),
        stdin_writable=fields.required("stdin_writable", bool),
        started_at=fields.required_time("started_at"),
        ended_at=fields.time("ended_at"),
        name=fields.get("name", str),
    )


def file_info(fields: Fields) -> FileInfo:
    return FileInfo(
        name=fields.path("name"),
        is_dir=fields.required("is_dir", bool),
        size=fields.get("size", int),
        modified_at=fields.time("modified_at"),
    )


def file_stat(fields: Fields) -> FileStat:
    return FileStat(
        path=fields.path("path"),
        kind=cast("FileKind", fields.required("type", str)),
        size=fields.required("size", int),
        mode=fields.octal("mode"),
        uid=fields.required("uid", int),
        gid=fields.required("gid", int),
        links=fields.required("links", int),
        modified_at=fields.required_time("modified_at"),
        accessed_at=fields.required_time("accessed_at"),
        changed_at=fields.required_time("changed_at"),
        target=fields.path("target") if fields.has("target") else None,
    )
