"""What all connections share: whether the sandbox is held, its token, its processes, its end."""

from __future__ import annotations

from _operator import _compare_digest as compare_digest  # pyright: ignore[reportPrivateUsage]
from time import monotonic

from longshore_daemon.inside.journal import note
from longshore_daemon.inside.loop import Bell, Wait
from longshore_daemon.inside.process import Command
from longshore_daemon.inside.spawn import SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore_daemon.inside.processes import Processes

VERSION = "0.1.0"


class Sandbox:
    """Held until `release`, and then until `stop`."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._started = monotonic()
        self._token: bytes | None = None
        self._grace_seconds: float | None = None
        self._stop_asked = Bell()

    @property
    def held(self) -> bool:
        return self._token is None

    @property
    def uptime_seconds(self) -> float:
        return monotonic() - self._started

    def has_token(self, token: str) -> bool:
        """In the same time for every wrong one."""
        return self._token is not None and compare_digest(self._token, token.encode())

    def release(self, token: str, env: Mapping[str, str], entrypoint: list[str]) -> bool:
        """Let user processes run. Once: False when it was released with another token."""
        if self._token is not None:
            return self.has_token(token)
        self._token = token.encode()
        self.processes.env.update(env)
        if entrypoint:
            command = Command(entrypoint[0], entrypoint[1:])
            command.stdin = command.logged = True
            try:
                self.processes.spawn(command)
            except SpawnError as exc:
                note(f"entrypoint: {exc}")
        return True

    def ask_to_stop(self, grace_seconds: float) -> None:
        """Of several, the first one's grace holds."""
        if self._grace_seconds is None:
            self._grace_seconds = grace_seconds
            self.processes.stopping = True
            self._stop_asked.ring()

    async def wait_until_stopped(self) -> None:
        """Until somebody asks to stop, which is when a sandbox ends, and then until it has."""
        while self._grace_seconds is None:
            await Wait(bells=(self._stop_asked,))
        await self.processes.stop(self._grace_seconds)
