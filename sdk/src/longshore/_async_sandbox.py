"""The SDK for code that awaits, under asyncio or trio; `_sandbox` is its twin that blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self, Unpack

from longshore import _session
from longshore._async_inside import AsyncProcess
from longshore._async_inside_channels import AsyncTerminal, AsyncTunnel
from longshore._async_inside_files import AsyncFiles
from longshore._carrier import Source
from longshore._errors import SandboxError
from longshore._http import AsyncCarrier
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
from longshore._opening import Opening
from longshore._processes import Work
from longshore._screen import Screen
from longshore._session import Session


class AsyncSandbox:
    """A machine of its own to run code in. Made by `create` and `attach`.

    As a context manager, one that was created is destroyed at the end, and one that was attached to
    is left running. Every method raises SandboxError, or what is said of it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def create(cls, image: str | None = None, **options: Unpack[CreateOptions]) -> Opening[Self]:
        """A new sandbox, as soon as it runs; of the server's default image if none is named.

        Options: `cpus`, `memory_mb`, `disk_mb`; `lifetime_seconds`, after which it ends by itself;
        `entrypoint`, `secret_names`; `allow_internet_access`, `allow_out`, `deny_out`;
        `wait_seconds` for how long it may take; `idempotency_key`; and where the server is:
        `api_url`, `api_key`, `namespace`.
        """

        async def opened() -> Self:
            return cls(await Session.create(AsyncCarrier(), image, options))

        return Opening(opened)

    @classmethod
    def attach(cls, sandbox_id: str, **endpoint: Unpack[Endpoint]) -> Opening[Self]:
        """One that there is, once it runs. Raises SandboxTerminatedError, SandboxNotFoundError."""

        async def opened() -> Self:
            return cls(await Session.attach(AsyncCarrier(), sandbox_id, endpoint))

        return Opening(opened)

    @classmethod
    async def get(cls, sandbox_id: str, **endpoint: Unpack[Endpoint]) -> SandboxInfo:
        """What the server knows of one, also of one that has ended."""
        return await _session.info_of(AsyncCarrier(), sandbox_id, endpoint)

    @classmethod
    async def list(
        cls, *, status: Status | None = None, **endpoint: Unpack[Endpoint]
    ) -> AsyncIterator[SandboxInfo]:
        """All of the namespace, the newest first, asked for in pages."""
        listing = _session.Listing(AsyncCarrier(), status, endpoint)
        try:
            while (page := await listing.next()) is not None:
                for info in page:
                    yield info
        finally:
            await listing.close()

    @classmethod
    async def delete(cls, sandbox_id: str, **endpoint: Unpack[Endpoint]) -> None:
        """End one; again is no error. Raises SandboxNotFoundError for one that never was."""
        await _session.delete(AsyncCarrier(), sandbox_id, endpoint)

    @property
    def id(self) -> str:
        """The server's name for it."""
        return self._session.id

    @property
    def files(self) -> AsyncFiles:
        """The files in it."""
        return AsyncFiles(self._session)

    async def run(
        self,
        command: Command,
        *,
        input: Source | str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: RemotePath | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # kept by the sandbox
        check: bool = False,
        max_output: int | None = None,
    ) -> Result:
        """Run a command to its end. A list is a program and its arguments; a string, a shell's.

        After `timeout` seconds the sandbox itself kills it, with all that it has started, and the
        result has what it wrote until then. `check` raises CommandError for one that fails. Of each
        stream, the first `max_output` bytes are kept, by default 64 MiB.
        """
        work = Work(command=command, env=env, cwd=cwd, timeout=timeout)
        return await self._session.processes.run(work, input, check, max_output)

    def start(
        self,
        command: Command,
        *,
        stdin: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: RemotePath | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Opening[AsyncProcess]:
        """Start a command that goes on, with an input that can be written to if `stdin`.

        While one runs under a `name`, no other can have it.
        """
        work = Work(command=command, env=env, cwd=cwd, timeout=timeout, name=name)

        async def opened() -> AsyncProcess:
            info = await self._session.processes.start(work, stdin=stdin)
            return AsyncProcess(self._session, info.pid)

        return Opening(opened)

    def process(self, pid: int) -> AsyncProcess:
        """One that was started before, from here or from anywhere. Nothing is asked yet."""
        return AsyncProcess(self._session, pid)

    async def processes(self) -> tuple[ProcessInfo, ...]:
        """All that were started through the API, also the ended ones, the oldest first."""
        return await self._session.processes.all()

    def terminal(
        self,
        command: Command | None = None,
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: RemotePath | None = None,
    ) -> Opening[AsyncTerminal]:
        """Start a command, or a shell, at a terminal of its own."""
        screen = Screen(command=command, columns=columns, rows=rows, env=env, cwd=cwd)

        async def opened() -> AsyncTerminal:
            return AsyncTerminal(await self._session.terminal(screen))

        return Opening(opened)

    def tunnel(self, port: int) -> Opening[AsyncTunnel]:
        """A TCP connection to a port inside. Raises SandboxConnectionError if nothing listens."""

        async def opened() -> AsyncTunnel:
            return AsyncTunnel(await self._session.tunnel(port))

        return Opening(opened)

    def url(self, port: int) -> str:
        """Where a port is for a browser or a shell: any program may ask there, without headers.

        On a machine of one's own, that is a name under `localhost`, which browsers and curl know
        and some resolvers do not; `request` always finds its way.
        """
        return self._session.url(port)

    async def request(
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
        return await self._session.request(method, port, path, headers or {}, body)

    async def info(self) -> SandboxInfo:
        """What the server knows of it by now."""
        return await self._session.info()

    async def guest(self) -> GuestInfo:
        """What the daemon inside says of itself."""
        return await self._session.guest()

    async def health(self) -> bool:
        """Whether the daemon inside answers."""
        return await self._session.is_healthy()

    async def destroy(self) -> None:
        """End it, whether it was created here or attached to. Idempotent."""
        await self._session.destroy()

    async def detach(self) -> None:
        """Leave it running, and let go of it here. Idempotent."""
        await self._session.detach()

    async def close(self) -> None:
        """What leaving its context does: destroy it if it was created here, else detach."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except SandboxError as exc:
            if error is None:
                raise
            error.add_note(f"and then: {exc}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"
