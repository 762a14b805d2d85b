"""The guest: how the daemon is launched, and how the worker speaks with it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import anyio
from longshore_core import JSON, ContainerSpec, Facts, GuestError, Launch, Reach, Tree
from longshore_core.abc import Guest, Session
from longshore_core.reach import CONTROL, call, connect

from longshore_daemon.runtime import PortableRuntime

TARGET: Final = "/.longshore/runtime"
"""Where containers see the runtime."""
_RESTORE: Final = "LONGSHORE_RESTORE_"
_BLANKED: Final = "LONGSHORE_BLANKED"
_FILES_ROOT: Final = "LONGSHORE_FILES_ROOT"
_OUTPUT_LIMIT: Final = "LONGSHORE_OUTPUT_LIMIT"
_OUTPUT_TOTAL: Final = "LONGSHORE_OUTPUT_TOTAL"
_GRPC: Final = "LONGSHORE_GRPC"
_BESIDE_SOCKETS: Final = {"LONGSHORE_OUTPUT": "beside-sockets"}
"""Where the container sees the host's files, its /tmp outlives it; the sockets' place does not."""
_BLANK: Final = dict.fromkeys(
    (
        *("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_ORIGIN_PATH"),
        *("LD_DEBUG", "LD_DEBUG_OUTPUT", "LD_PROFILE", "LD_PROFILE_OUTPUT"),
        *("GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH"),
    ),
    "",
) | {"LC_ALL": "C"}
"""What PID 1 has instead of what the image says. Only names whose emptiness means nothing: the
loader heeds some others, such as LD_TRACE_LOADED_OBJECTS, by their mere presence. The locale is
the one that needs no file: others name a character set, and thereby code to load."""
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.1
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long, in seconds, a guest may take."""

    start: float
    """From PID 1's first instruction until it answers."""
    call: float
    """For one answer."""
    grace: float
    """For user processes to end by themselves, once asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a guest is to behave. `None` is the guest's own default."""

    files_root: str | None = None
    """What its files API is confined to."""
    output_bytes: int | None = None
    """How much is kept of what a process writes, for each of its two streams."""
    output_total_bytes: int | None = None
    """How much is kept of all that processes write, together."""
    grpc: str | None = None
    """HOST:PORT, in numbers, where gRPC is served besides its Unix socket."""


class SandboxDaemon(Guest):
    """Launches the daemon from a portable runtime, and connects to it."""

    def __init__(
        self, runtime: PortableRuntime, patience: Patience, options: Options | None = None
    ) -> None:
        self._runtime = runtime
        self._patience = patience
        self._options = options or Options()

    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        """Pure. Variables that could let the image's code into PID 1 are blanked for it.

        Their values in `spec.env` reach user processes all the same; so does the value of an
        image, when the driver puts it under `LONGSHORE_RESTORE_<name>`.
        """
        source = str(self._runtime.path)
        tree = Tree(source=source, target=TARGET, digest=self._runtime.digest)
        restored = {_RESTORE + name: spec.env[name] for name in _BLANK if name in spec.env}
        blanked = {_BLANKED: " ".join(_BLANK)} | ({} if facts.mounts else _BESIDE_SOCKETS)
        if self._options.files_root is not None:
            blanked[_FILES_ROOT] = self._options.files_root
        if self._options.output_bytes is not None:
            blanked[_OUTPUT_LIMIT] = str(self._options.output_bytes)
        if self._options.output_total_bytes is not None:
            blanked[_OUTPUT_TOTAL] = str(self._options.output_total_bytes)
        if self._options.grpc is not None:
            blanked[_GRPC] = self._options.grpc
        return replace(
            spec,
            argv=self._runtime.argv(TARGET if facts.mounts else source),
            env={**spec.env, **restored, **_BLANK, **blanked},
            trees=(*spec.trees, tree),
            sockets=True,
        )

    async def connect(self, reach: Reach) -> Session:
        session = DaemonSession(reach, self._patience)
        began = anyio.current_time()
        failure: GuestError | None = None
        with anyio.move_on_after(self._patience.start):
            while True:
                try:
                    await session.health()
                except GuestError as exc:
                    if not exc.retryable:
                        raise
                    failure = exc
                else:
                    return session
                # There is nothing to wait on but time: a tenth of what has passed, at a time.
                passed = anyio.current_time() - began
                await anyio.sleep(min(_LONGEST_PAUSE, max(_FIRST_PAUSE, passed / 10)))
        raise GuestError(
            f"the guest did not answer within {self._patience.start:g} s: {failure}", retryable=True
        ) from failure


class DaemonSession(Session):
    """Speaks over a connection of its own for each call: one cut short spoils no other."""

    def __init__(self, reach: Reach, patience: Patience) -> None:
        self._reach = reach
        self._patience = patience

    async def health(self) -> None:
        await self._ask("health", {})

    async def go(self, launch: Launch) -> None:
        env: dict[str, JSON] = dict(launch.env)
        entrypoint: list[JSON] = list(launch.entrypoint)
        await self._ask("go", {"token": launch.token, "env": env, "entrypoint": entrypoint})

    async def stop(self) -> None:
        await self._ask("stop", {"grace_seconds": self._patience.grace})

    async def aclose(self) -> None:
        """Nothing is held open between calls."""

    async def _ask(self, op: str, fields: Mapping[str, JSON]) -> None:
        answer = await self._in_time(op, self._call(op, fields))
        if answer.get("ok") is not True:
            code, error = answer.get("code", "no code"), answer.get("error", "no reason")
            raise GuestError(f"the guest refused {op}: {error} ({code})")

    async def _in_time(self, op: str, answer: Awaitable[_T]) -> _T:
        try:
            with anyio.fail_after(self._patience.call):
                return await answer
        except TimeoutError as exc:
            message = f"the guest did not answer {op} within {self._patience.call:g} s"
            raise GuestError(message, retryable=True) from exc

    async def _call(self, op: str, fields: Mapping[str, JSON]) -> dict[str, JSON]:
        control = await connect(self._reach, CONTROL)
        try:
            answer, descriptors = await call(control, op, fields)
        finally:
            control.close()
        if descriptors:
            raise GuestError(f"the guest handed out something that {op} did not ask for")
        return answer
