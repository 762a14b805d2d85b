"""What the SDK answers: values that do not change, and know nothing of where they came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from typing import Any, Literal, TypeAlias, TypedDict

from longshore._errors import CommandError

Command: TypeAlias = str | Sequence[str]
"""A string is for `/bin/sh -c`; a list is a program and its arguments, and no shell sees it."""
RemotePath: TypeAlias = str | bytes | PathLike[str]
LocalPath: TypeAlias = str | PathLike[str]
StreamName: TypeAlias = Literal["stdout", "stderr"]
Status: TypeAlias = Literal["pending", "running", "terminated"]
FileKind: TypeAlias = Literal[
    "file", "directory", "symlink", "fifo", "socket", "character_device", "block_device"
]
ChangeKind: TypeAlias = Literal[
    "created",
    "modified",
    "written",
    "attributes",
    "deleted",
    "moved_from",
    "moved_to",
    "overflow",
]
DEFAULT_MAX_OUTPUT = 64 << 20
"""How many bytes a result keeps of each stream, unless told otherwise."""


class Endpoint(TypedDict, total=False):
    """Where the server is, and who asks. Each falls back to the environment.

    `api_url` to `LONGSHORE_API_URL`, then `http://127.0.0.1:8900`; `api_key`, sent as a bearer
    token to the server alone, to `LONGSHORE_API_KEY`; `namespace` to `LONGSHORE_NAMESPACE`, then
    `default`.
    """

    api_url: str
    api_key: str
    namespace: str


class CreateOptions(Endpoint, total=False):
    """What can be asked of a new sandbox; the server has a default for all of it."""

    name: str
    """To call it by wherever its id would do, for as long as it lives; unique in the namespace."""
    cpus: float
    memory_mb: int
    disk_mb: int
    lifetime_seconds: int
    """When it ends by itself; 0: never."""
    entrypoint: Sequence[str]
    secret_names: Sequence[str]
    allow_internet_access: bool
    allow_out: Sequence[str]
    """Addresses and networks that it may reach, as `10.0.0.0/8`."""
    deny_out: Sequence[str]
    idempotency_key: str
    """The same key answers with the same sandbox for a day; one is made up when there is none."""
    wait_seconds: float
    """How long it may take to run, by default 300. One that does not by then is deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxInfo:
    """A sandbox as the server sees it."""

    id: str
    namespace: str
    status: Status
    image: str
    created_at: datetime
    cpus: float
    memory_mb: int
    disk_mb: int
    lifetime_seconds: int
    """0: it does not end by itself."""
    name: str | None = None
    sandbox_url: str | None = None
    """The proxy that leads to it, while there is one."""
    pending_reason: str | None = None
    outcome: str | None = None
    """How it ended, such as `Success(Timeout)`."""
    error: str | None = None
    exit_code: int | None = None
    terminated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestInfo:
    """What the daemon inside a sandbox says of itself."""

    version: str
    uptime_seconds: int
    running_processes: int
    total_processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A process in a sandbox, as it was when asked for."""

    pid: int
    command: tuple[str, ...]
    running: bool
    exit_code: int | None
    """As `subprocess` has it: minus the number of the signal that ended it."""
    timed_out: bool
    stdin_writable: bool
    started_at: datetime
    ended_at: datetime | None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """An entry of a directory. What a link points to is not looked at."""

    name: str
    """What is not UTF-8 in it is escaped as `os.fsdecode` does it, and so can be asked for."""
    is_dir: bool
    size: int | None
    modified_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """What stands at a path."""

    path: str
    kind: FileKind
    size: int
    mode: int
    """The permission bits, such as `0o755`."""
    uid: int
    gid: int
    links: int
    modified_at: datetime
    accessed_at: datetime
    changed_at: datetime
    target: str | None
    """Where a link leads to."""

    @property
    def is_dir(self) -> bool:
        return self.kind == "directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something has happened to a file that is watched."""

    kind: ChangeKind
    """`modified` by each write, `written` when who wrote has closed it; `overflow`: more has
    happened than could be told, look again."""
    path: str
    is_dir: bool | None
    """Unknown for what was there before it could be watched."""
    cookie: int | None
    """The same for `moved_from` and `moved_to` if they are one move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of what a process has written, as it came."""

    stream: StreamName
    data: bytes
    offset: int
    """How many bytes of both streams together came before it."""
    missing: int = 0
    """How many of those, just before it, are gone: more was written than the sandbox keeps."""

    @property
    def end(self) -> int:
        """Where the next one begins: what to give to `connect(offset=…)` to go on after this."""
        return self.offset + len(self.data)

    @property
    def text(self) -> str:
        """As UTF-8, with U+FFFD for what is not. A character may be cut in two by a chunk's end."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command went, and all that it wrote, byte for byte."""

    command: Command
    pid: int
    exit_code: int
    """As `subprocess` has it: minus the number of the signal that ended it."""
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    timed_out: bool = False
    """Its timeout ended it, with all that it had started."""
    truncated: bool = False
    """It wrote more than `max_output`, or than the sandbox keeps or has room for: the first bytes
    are here."""
    duration: float = 0.0
    """Seconds, as seen from here."""

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, with status 0."""
        return self.exit_code == 0 and not self.timed_out

    @property
    def text(self) -> str:
        """Standard output as UTF-8, with U+FFFD for what is not."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def summary(self) -> str:
        """One line: what was run, how it ended, and the last that it said of it."""
        shown = self.command if isinstance(self.command, str) else " ".join(self.command)
        how = "timed out" if self.timed_out else f"ended with {self.exit_code}"
        last = (self.stderr or self.stdout).decode("utf-8", "replace").strip().rpartition("\n")[2]
        return f"{_short(shown)!r} {how}" + (f": {_short(last)}" if last else "")

    def check(self) -> Result:
        """Itself, if it is `ok`. Raises CommandError."""
        if not self.ok:
            raise CommandError.of(self)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a program in a sandbox answered to an HTTP request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of equal ones, the values joined by commas."""
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The body as UTF-8, with U+FFFD for what is not."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, read as JSON. Raises ValueError."""
        return json.loads(self.body)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
