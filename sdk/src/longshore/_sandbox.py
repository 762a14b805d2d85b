"""The SDK for code that blocks. `_async_sandbox` is the same for code that awaits.

Every method hands its work to the one core behind both; a test holds their signatures, and what
they say of themselves, equal. `run` has more than five parameters: each is said of a command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self, Unpack

from longshore import _session
from longshore._carrier import Source, finish
from longshore._errors import SandboxError
from longshore._http import BlockingCarrier
from longshore._inside import Process
from longshore._inside_channels import Terminal, Tunnel
from longshore._inside_files import Files
from longshore._model import (
    Command,
    CreateOptions,
    Endpoint,
    GuestInfo,
    ProcessInfo,
    RemotePath,
    Reply,
    Result,
    SandboxInfo,
    Status,
)
from longshore._processes import Work
from longshore._screen import Screen
from longshore._session import Session


class Sandbox:
    """A machine of its own to run code in. Made by `create` and `attach`.

    As a context manager, one that was created is destroyed at the end, and one that was attached to
    is left running. Every method raises SandboxError, or what is said of it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def create(cls, image: str | None = None, **options: Unpack[CreateOptions]) -> Self:
        """A new sandbox, as soon as it runs; of the server's default image if none is named.

        Options: `cpus`, `memory_mb`, `disk_mb`; `lifetime_seconds`, after which it ends by itself;
        `entrypoint`, `secret_names`; `allow_internet_access`, `allow_out`, `deny_out`;
        `wait_seconds` for how long it may take; `idempotency_key`; and where the server is:
        `api_url`, `api_key`, `namespace`.
        """
        return cls(finish(Session.create(BlockingCarrier(), image, options)))

    @classmethod
    def attach(cls, sandbox_id: str, **endpoint: Unpack[Endpoint]) -> Self:
        """One that there is, once it runs. Raises SandboxTerminatedError, SandboxNotFoundError."""
        return cls(finish(Session.attach(BlockingCarrier(), sandbox_id, endpoint)))

    @classmethod
    def get(cls, sandbox_id: str, **endpoint: Unpack[Endpoint]) -> SandboxInfo:
        """What the server knows of one, also of one that has ended."""
        return finish(_session.info_of(BlockingCarrier(), sandbox_id, endpoint))

    @classmethod
    def list(
        cls, *, status: Status | None = None, **endpoint: Unpack[Endpoint]
    ) -> Iterator[SandboxInfo]:
        """All of the namespace, the newest first, asked for in pages."""
        listing = _session.Listing(BlockingCarrier(), status, endpoint)
        try:
            while (page := finish(listing.next())) is not None:
                yield from page
        finally:
            finish(listing.close())

    @classmethod
    def delete(cls, sandbox_id: str, **endpoint: Unpack[Endpoint]) -> None:
        """End one; again is no error. Raises SandboxNotFoundError for one that never was."""
        finish(_session.delete(BlockingCarrier(), sandbox_id, endpoint))

    @property
    def id(self) -> str:
        """The server's name for it."""
        return self._session.id

    @property
    def files(self) -> Files:
        """The files in it."""
        return Files(self._session)

    def run(
        self,
        command: Command,
        *,
        input: Source | str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: RemotePath | None = None,
        timeout: float | None = None,
        check: bool = False,
        max_output: int | None = None,
    ) -> Result:
        """Run a command to its end. A list is a program and its arguments; a string, a shell's.

        After `timeout` seconds the sandbox itself kills it, with all that it has started, and the
        result has what it wrote until then. `check` raises CommandError for one that fails. Of each
        stream, the first `max_output` bytes are kept, by default 64 MiB.
        """
        work = Work(command=command, env=env, cwd=cwd, timeout=timeout)
        return finish(self._session.processes.run(work, input, check, max_output))

    def start(
        self,
        command: Command,
        *,
        stdin: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: RemotePath | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Process:
        """Start a command that goes on, with an input that can be written to if `stdin`.

        While one runs under a `name`, no other can have it.
        """
        work = Work(command=command, env=env, cwd=cwd, timeout=timeout, name=name)
        info = finish(self._session.processes.start(work, stdin=stdin))
        return Process(self._session, info.pid)

    def process(self, pid: int) -> Process:
        """One that was started before, from here or from anywhere. Nothing is asked yet."""
        return Process(self._session, pid)

    def processes(self) -> tuple[ProcessInfo, ...]:
        """All that were started through the API, also the ended ones, the oldest first."""
        return finish(self._session.processes.all())

    def terminal(
        self,
        command: Command | None = None,
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: RemotePath | None = None,
    ) -> Terminal:
        """Start a command, or a shell, at a terminal of its own."""
        screen = Screen(command=command, columns=columns, rows=rows, env=env, cwd=cwd)
        return Terminal(finish(self._session.terminal(screen)))

    def tunnel(self, port: int) -> Tunnel:
        """A TCP connection to a port inside. Raises SandboxConnectionError if nothing listens."""
        return Tunnel(finish(self._session.tunnel(port)))

    def url(self, port: int) -> str:
        """Where a port is for a browser or a shell: any program may ask there, without headers.

        On a machine of one's own, that is a name under `localhost`, which browsers and curl know
        and some resolvers do not; `request` always finds its way.
        """
        return self._session.url(port)

    def request(
        self,
        method: str,
        port: int,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        body: Source | str = b"",
    ) -> Reply:
        """Ask a program that listens at a port inside, over HTTP; any answer of its is a reply.

        Raises SandboxConnectionError, which is retryable, when nothing listens there.
        """
        return finish(self._session.request(method, port, path, headers or {}, body))

    def info(self) -> SandboxInfo:
        """What the server knows of it by now."""
        return finish(self._session.info())

    def guest(self) -> GuestInfo:
        """What the daemon inside says of itself."""
        return finish(self._session.guest())

    def health(self) -> bool:
        """Whether the daemon inside answers."""
        return finish(self._session.is_healthy())

    def destroy(self) -> None:
        """End it, whether it was created here or attached to. Idempotent."""
        finish(self._session.destroy())

    def detach(self) -> None:
        """Leave it running, and let go of it here. Idempotent."""
        finish(self._session.detach())

    def close(self) -> None:
        """What leaving its context does: destroy it if it was created here, else detach."""
        finish(self._session.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except SandboxError as exc:
            if error is None:
                raise
            error.add_note(f"and then: {exc}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"
