"""The link to the server: heartbeats out, commands in.

Reports stay with the desk until a heartbeat that carried them was accepted; commands are
acknowledged when what they ask for is on disk. So nothing is lost on either side when either dies,
and some of it comes twice. Semantics: Indexify's executor API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

import anyio
import structlog
from grpc import aio
from longshore_proto import executor_api_pb2 as pb
from longshore_proto.executor_api_pb2_grpc import ExecutorAPIStub

from longshore_core._machine.reports import ContainerTerminated, Numbered, Report
from longshore_core._wire import convert
from longshore_core._wire.calls import CallFailed, answer
from longshore_core._wire.commands import Commands
from longshore_core._wire.desk import Desk

PROTOCOL: Final = 1
"""Of the extension. Advertised in the metadata of each call under `METADATA_KEY`."""
METADATA_KEY: Final = "longshore-protocol"

HEARTBEAT_SECONDS: Final = 5.0
HEARTBEAT_DEADLINE_SECONDS: Final = 5.0
HEARTBEAT_RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 5.0)
POLL_DEADLINE_SECONDS: Final = 330.0
"""The server holds a poll for up to 300 s."""
POLL_RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 10.0)
GAP_PAUSE_SECONDS: Final = 0.5
FAREWELL_SECONDS: Final = 3.0
FRAGMENT_BYTES: Final = 10 << 20

log = structlog.stdlib.get_logger("longshore_core.server_link")


class Phase(Enum):
    REGISTERING = "registering"
    READY = "ready"
    UNHEALTHY = "unhealthy"


@dataclass(slots=True)
class Health:
    """What monitoring asks about the link."""

    ever_ready: bool = False
    healthy: bool = False
    last_report: str = ""


@dataclass(slots=True)
class _Cursor:
    """How far a stream of the server has been applied. `epoch` changes when it starts again."""

    applied: int = 0
    epoch: int = 0


class _Item(Protocol):
    @property
    def seq(self) -> int: ...


ItemT = TypeVar("ItemT", bound=_Item)


@dataclass(frozen=True, slots=True)
class _Stream(Generic[ItemT]):
    """What the server numbers and sends until it is acknowledged."""

    name: str
    cursor: _Cursor
    poll: Callable[[int | None], Awaitable[Sequence[ItemT]]]
    """Ask for what follows the acknowledged number."""
    apply: Callable[[ItemT], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    executor_id: str
    host: convert.Host
    server_addr: str


@dataclass(slots=True)
class _Fragment:
    request: pb.HeartbeatRequest
    numbers: set[int] = field(default_factory=set[int])
    size: int = 0


class ServerLink:
    """Keeps one worker known to one server. `run` until cancelled, then `farewell`."""

    def __init__(self, channel: aio.Channel, desk: Desk, identity: Identity) -> None:
        self._stub = ExecutorAPIStub(channel)
        self._desk = desk
        self._identity = identity
        self._phase = Phase.REGISTERING
        self._phase_changed = anyio.Event()
        self._polls: set[anyio.CancelScope] = set()
        self._commands = _Cursor()
        self._results = _Cursor()
        self._peer_extends = False
        self._hurry = anyio.Event()
        self.health = Health()

    async def run(self) -> None:
        """Heartbeats and polls, for as long as the task lives. A server may come and go."""
        log.info("Connecting to the server", server_addr=self._identity.server_addr)
        handler = Commands(self._desk)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._heartbeats)
            commands = _Stream("commands", self._commands, self._poll_commands, handler.apply)
            results = _Stream("results", self._results, self._poll_results, self._let_go)
            tasks.start_soon(self._follow, commands)
            tasks.start_soon(self._follow, results)

    async def farewell(self, *, stopped: bool) -> None:
        """Deliver what is left to report, within 3 seconds; then, if `stopped`, deregister.

        A worker whose containers live on must not deregister: the server would end them.
        """
        with anyio.move_on_after(FAREWELL_SECONDS, shield=True):
            try:
                if self._phase is Phase.READY:
                    await self._beat(full=False)
                if stopped:
                    request = self._request()
                    request.status = convert.STATUS_STOPPED
                    await self._send(request)
            except CallFailed as exc:
                log.info("The server was not told of the stop", why=str(exc))

    # --- heartbeats ------------------------------------------------------------------------------

    async def _heartbeats(self) -> None:
        full, failures = False, 0
        while True:
            asked_before = full
            try:
                full = await self._beat(full=full)
            except CallFailed as exc:
                self._failed(exc, first=failures == 0)
                pause = HEARTBEAT_RETRY_SECONDS[min(failures, len(HEARTBEAT_RETRY_SECONDS) - 1)]
                failures += 1
                await anyio.sleep(pause)
                continue
            failures = 0
            if not full:
                await self._wait_for_reports()
            elif asked_before:
                # It has just had full state: a server that wants it again must not be stormed.
                await anyio.sleep(HEARTBEAT_RETRY_SECONDS[0])

    async def _beat(self, *, full: bool) -> bool:
        """Send all reports in as many fragments as it takes. True: the server wants full state."""
        await self._desk.published()
        for fragment in self._fragments(self._desk.reports, full=full):
            response = await self._send(fragment.request)
            if response.send_state:
                # In any fragment: a server that does not know us has dropped what was in it.
                self._enter(Phase.REGISTERING)
                return True
            if fragment.request.HasField("full_state"):
                # The server counts from one again, whatever happened to earlier attempts.
                for cursor in (self._commands, self._results):
                    cursor.applied, cursor.epoch = 0, cursor.epoch + 1
                log.info("Registered with the server", executor_id=self._identity.executor_id)
            await self._desk.taken(frozenset(fragment.numbers))
        self.health.healthy = self.health.ever_ready = True
        self._enter(Phase.READY)
        return False

    def _fragments(self, reports: Sequence[Numbered], *, full: bool) -> list[_Fragment]:
        first = _Fragment(self._request())
        if full:
            containers = self._desk.containers.values()
            first.request.full_state.CopyFrom(convert.full_state(self._identity.host, containers))
            first.size = first.request.ByteSize()
            self._extend(first, map(convert.detail_of, containers))
        fragments = [first]
        for item in reports:
            if fragments[-1].numbers and fragments[-1].size >= FRAGMENT_BYTES:
                fragments.append(_Fragment(self._request()))
            fragment = fragments[-1]
            fragment.size += convert.add_report(fragment.request, item.report)
            fragment.numbers.add(item.number)
            self._extend(fragment, self._details(item.report))
        request = first.request
        self.health.last_report = (
            f"executor_id={self._identity.executor_id} full_state={str(full).lower()}"
            f" command_responses={len(request.command_responses)}"
            f" allocation_outcomes={len(request.allocation_outcomes)}"
            f" allocation_log_entries={len(request.allocation_log_entries)}"
            f" size_bytes={request.ByteSize()}"
        )
        return fragments

    def _details(self, report: Report) -> list[pb.ContainerDetail]:
        if isinstance(report, ContainerTerminated):
            return [convert.ended_detail(report)]
        container = self._desk.containers.get(report.container)
        return [] if container is None else [convert.detail_of(container)]

    def _extend(
        self, fragment: _Fragment, details: Sequence[pb.ContainerDetail] | map[pb.ContainerDetail]
    ) -> None:
        if self._peer_extends:
            fragment.request.longshore.protocol = PROTOCOL
            for detail in details:
                fragment.request.longshore.containers.append(detail)
                fragment.size += detail.ByteSize()

    def _request(self) -> pb.HeartbeatRequest:
        return pb.HeartbeatRequest(
            executor_id=self._identity.executor_id, status=convert.STATUS_RUNNING
        )

    async def _send(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:
        call = self._stub.heartbeat(
            request,
            timeout=HEARTBEAT_DEADLINE_SECONDS,
            wait_for_ready=True,
            metadata=((METADATA_KEY, str(PROTOCOL)),),
        )
        response = await answer(call)
        metadata = await call.initial_metadata()
        self._peer_extends = any(key == METADATA_KEY for key, _ in metadata)
        return response

    async def _wait_for_reports(self) -> None:
        with anyio.move_on_after(HEARTBEAT_SECONDS):
            async with anyio.create_task_group() as either:

                async def until(arrived: Callable[[], Awaitable[object]]) -> None:
                    await arrived()
                    either.cancel_scope.cancel()

                either.start_soon(until, self._hurry.wait)
                either.start_soon(until, self._some_report)
        self._hurry = anyio.Event()

    async def _some_report(self) -> None:
        while not self._desk.reports:
            await self._desk.changed()

    def _failed(self, exc: CallFailed, *, first: bool) -> None:
        self.health.healthy = False
        self._enter(Phase.UNHEALTHY)
        tell = log.warning if first else log.debug
        tell("Heartbeat failed; trying again", why=str(exc))

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        log.debug("Link state changed", before=self._phase.value, after=phase.value)
        self._phase = phase
        self._phase_changed.set()
        self._phase_changed = anyio.Event()
        for poll in self._polls:
            poll.cancel()

    # --- polls -----------------------------------------------------------------------------------

    async def _poll_commands(self, acked: int | None) -> Sequence[pb.Command]:
        request = pb.PollCommandsRequest(
            executor_id=self._identity.executor_id, acked_command_seq=acked
        )
        call = self._stub.poll_commands(request, timeout=POLL_DEADLINE_SECONDS)
        return (await answer(call)).commands

    async def _poll_results(self, acked: int | None) -> Sequence[pb.SequencedAllocationResult]:
        request = pb.PollAllocationResultsRequest(
            executor_id=self._identity.executor_id, acked_result_seq=acked
        )
        call = self._stub.poll_allocation_results(request, timeout=POLL_DEADLINE_SECONDS)
        return (await answer(call)).results

    async def _let_go(self, result: pb.SequencedAllocationResult) -> None:
        # No allocation runs here, so nobody waits for it: taken, and let go.
        log.info("Result for an unknown allocation", allocation=result.entry.allocation_id)

    async def _follow(self, stream: _Stream[ItemT]) -> None:
        """Poll a stream, apply what comes in order, and acknowledge it with the next poll."""
        cursor, failures = stream.cursor, 0
        while True:
            await self._ready()
            epoch = cursor.epoch
            try:
                items: Sequence[ItemT] | None = None
                with self._poll():
                    items = await stream.poll(cursor.applied or None)
            except CallFailed as exc:
                failures = await self._poll_failed(stream.name, exc, failures)
                continue
            failures = 0
            if items is None:
                continue
            if await self._apply(stream, items, epoch):
                # After a restart we count from one and the server does not: it has seen that by
                # now, and the next heartbeat's answer will ask for full state.
                self._hurry.set()
                await anyio.sleep(GAP_PAUSE_SECONDS)
            elif not items:
                # It should have held the poll: one that does not must not be stormed.
                await anyio.sleep(GAP_PAUSE_SECONDS)

    async def _apply(self, stream: _Stream[ItemT], items: Sequence[ItemT], epoch: int) -> bool:
        """Apply a batch in order. True: there was a gap, and the rest has to come again."""
        cursor = stream.cursor
        for item in items:
            if cursor.epoch != epoch:
                return False
            if item.seq <= cursor.applied:
                continue
            if item.seq > cursor.applied + 1:
                expected = cursor.applied + 1
                log.warning("Gap in a stream", stream=stream.name, expected=expected, got=item.seq)
                return True
            await stream.apply(item)
            if cursor.epoch == epoch:
                cursor.applied = item.seq
        return False

    async def _ready(self) -> None:
        while self._phase is not Phase.READY:
            await self._phase_changed.wait()

    def _poll(self) -> _Poll:
        return _Poll(self._polls)

    async def _poll_failed(self, what: str, exc: CallFailed, failures: int) -> int:
        idle = exc.status == "DEADLINE_EXCEEDED"
        if not idle:
            log.debug("Poll failed", stream=what, why=str(exc))
            await anyio.sleep(POLL_RETRY_SECONDS[min(failures, len(POLL_RETRY_SECONDS) - 1)])
        return 0 if idle else failures + 1


class _Poll:
    """A long poll that ends when the link's phase changes: what it waits for is moot then."""

    def __init__(self, polls: set[anyio.CancelScope]) -> None:
        self._polls = polls
        self._scope = anyio.CancelScope()

    def __enter__(self) -> None:
        self._polls.add(self._scope)
        self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._polls.discard(self._scope)
        return self._scope.__exit__(kind, exc, traceback)
