"""The keeper: one task owns the state of every container.

A turn: drain the mailbox, let the machine step, commit once, and only then release the effects and
reports that came of it. Nothing else writes this state, so there are no locks; nothing is awaited
while deciding.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog

from longshore_core._errors import BackendError, CapacityExhausted, KernelBug
from longshore_core._machine import step as machine
from longshore_core._machine.ledger import Ledger
from longshore_core._machine.life import (
    Abandon,
    Ask,
    Container,
    Delivered,
    Effect,
    Ending,
    Event,
    Forget,
    Order,
    Publish,
    Remove,
    ReportStarted,
    ReportTerminated,
    Revoke,
    Terminated,
    TerminationReason,
    Unwanted,
    Wake,
    Watch,
    Woken,
)
from longshore_core._machine.reconcile import reconcile
from longshore_core._machine.reports import ContainerStarted, ContainerTerminated, Numbered, Report
from longshore_core._model import ContainerId, Found
from longshore_core._worker.lanes import Boundary, Lanes
from longshore_core._worker.mail import Message, Outcome, Refusal, Taken, Ticket, Wish
from longshore_core._worker.routes import RouteFeed
from longshore_core._worker.store import Changes, Store
from longshore_core._worker.surveys import Patience, Survey, try_survey, wait_for_survey
from longshore_core._worker.transitions import Transitions

RETRY_COMMIT_SECONDS: Final = 1.0
CLOCK_SECONDS: Final = 30.0
"""How long the keeper waits for a deadline, at most, before it looks at the clock again."""

log = structlog.stdlib.get_logger("longshore_core.containers")


@dataclass(slots=True)
class _Turn:
    """What one turn has decided, until it is committed and released."""

    put: dict[ContainerId, Container] = field(default_factory=dict[ContainerId, Container])
    forget: set[ContainerId] = field(default_factory=set[ContainerId])
    reports: list[Numbered] = field(default_factory=list[Numbered])
    delivered: set[int] = field(default_factory=set[int])
    release: list[tuple[Container, Effect]] = field(default_factory=list[tuple[Container, Effect]])

    def changes(self) -> Changes:
        return Changes(
            put={id_: item for id_, item in self.put.items() if id_ not in self.forget},
            forget=frozenset(self.forget),
            report=self.reports,
            delivered=frozenset(self.delivered),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What the keeper works with."""

    store: Store
    routes: RouteFeed
    transitions: Transitions
    clock: Callable[[], float]
    """Seconds since the epoch: deadlines are kept over restarts."""
    grace_seconds: float = machine.GRACE_SECONDS
    patience: Patience = field(default_factory=Patience)
    """With the driver's surveys."""
    boundary: Boundary = lambda _point: None


class Keeper:
    """Owns the containers. `run` is its one task; everything else only leaves it messages."""

    def __init__(self, keeping: Keeping, ledger: Ledger) -> None:
        self._use = keeping
        self._ledger = ledger
        self._containers: dict[ContainerId, Container] = {}
        self._reports: dict[int, Report] = {}
        self._last_report = 0
        self._last_effect = 0
        self._floor: dict[ContainerId, int] = {}
        self._wakes: dict[ContainerId, float] = {}
        self._mail: list[tuple[Message, anyio.Event | None]] = []
        self._arrived = anyio.Event()
        self._changed = anyio.Event()
        self._lanes: Lanes | None = None

    @property
    def containers(self) -> Mapping[ContainerId, Container]:
        """Every container there is a record of, as of the last decision."""
        return self._containers

    @property
    def reports(self) -> Sequence[Numbered]:
        """What the server has not taken yet, in order."""
        return [Numbered(number=number, report=item) for number, item in self._reports.items()]

    @property
    def quarantined(self) -> int:
        return sum(item.quarantined for item in self._containers.values())

    async def submit(self, *messages: Message) -> None:
        """Leave messages, and return when what they lead to is committed."""
        done = anyio.Event()
        for message in messages[:-1]:
            self._mail.append((message, None))
        if messages:
            self._mail.append((messages[-1], done))
            self._arrived.set()
            await done.wait()

    def post(self, ticket: Ticket, event: Event) -> None:
        """Leave what came of an effect."""
        self._mail.append((Outcome(ticket=ticket, event=event), None))
        self._arrived.set()

    async def changed(self) -> None:
        """Wait for the next turn that changes anything."""
        await self._changed.wait()

    async def recover(self, lanes: Lanes, survey: Survey) -> None:
        """Go on from what the store and the driver know. To be called once, before `run`.

        Waits for an engine that cannot answer: until it does, nothing is known to be dead.
        """
        self._lanes = lanes
        remembered = await self._use.store.remembered()
        self._containers = dict(remembered.containers)
        self._reports = {item.number: item.report for item in remembered.reports}
        self._last_report = remembered.last_number
        for container in self._containers.values():
            if not isinstance(container.life, Terminated):
                self._ledger = self._ledger.adopt(container.id, container.order.limits)
        found = await wait_for_survey(survey, self._use.patience)
        reconciled = reconcile(self._containers, found)
        turn, now = _Turn(), self._use.clock()
        for id_, event in reconciled.events.items():
            self._step(turn, self._containers[id_], event, now)
        await self._settle(turn)
        for id_, container in self._containers.items():
            if id_ not in turn.put:
                self._use.routes.put(container)
        self._remove_strays(lanes, reconciled.sweep)

    async def sweep(self, lanes: Lanes, survey: Survey) -> None:
        """Remove whatever bears our mark and has no record: leftovers of what went wrong.

        A driver that cannot say what there is leaves it to the next time.
        """
        found = await try_survey(survey, self._use.patience)
        self._remove_strays(lanes, [item for item in found if item.id not in self._containers])

    async def run(self) -> None:
        """Turn after turn, until cancelled."""
        while True:
            await self._wait_for_mail()
            mail, self._mail = self._mail, []
            turn, now = _Turn(), self._use.clock()
            for message, _ in mail:
                self._take(turn, message, now)
            for id_ in [id_ for id_, at in self._wakes.items() if at <= now]:
                del self._wakes[id_]
                if id_ in self._containers:
                    self._step(turn, self._containers[id_], Woken(), now)
            await self._settle(turn)
            for _, done in mail:
                if done is not None:
                    done.set()

    async def remove_all(self, message: str) -> None:
        """Ask every container to end, and wait until none is left."""
        while left := [
            item for item in self._containers.values() if not isinstance(item.life, Terminated)
        ]:
            changed = self._changed
            await self.submit(
                *(Wish(container=item.id, event=Unwanted(message=message)) for item in left)
            )
            if all(isinstance(item.life, Terminated) for item in self._containers.values()):
                return
            await changed.wait()

    def _remove_strays(self, lanes: Lanes, strays: Sequence[Found]) -> None:
        for stray in strays:
            log.warning("Removing a container that nobody wants", container_id=stray.id)
            for effect in (Revoke(), Remove(handle=stray.handle)):
                lanes.submit(self._ticket(stray.id, 0), effect)

    async def _wait_for_mail(self) -> None:
        if not self._mail:
            self._arrived = anyio.Event()
            due = min(self._wakes.values(), default=None)
            timeout = math.inf
            if due is not None:
                # While the host sleeps, timers stand still, and the clock does not.
                timeout = min(max(0.0, due - self._use.clock()), CLOCK_SECONDS)
            with anyio.move_on_after(timeout):
                await self._arrived.wait()

    def _take(self, turn: _Turn, message: Message, now: float) -> None:
        match message:
            case Wish():
                self._wish(turn, message, now)
            case Refusal(order=order, why=why):
                self._refuse(turn, order, why)
            case Outcome(ticket=ticket, event=event):
                container = self._containers.get(ticket.container)
                if container is not None and self._is_current(ticket, container):
                    self._step(turn, container, event, now)
            case Taken(numbers=numbers):
                for number in numbers & self._reports.keys():
                    self._delivered(turn, number, now)
            case report:
                self._report(turn, report)

    def _wish(self, turn: _Turn, wish: Wish, now: float) -> None:
        id_, event = wish.container, wish.event
        container = self._containers.get(id_)
        if container is not None and not isinstance(container.life, Terminated):
            self._step(turn, container, event, now)
            return
        if isinstance(event, Unwanted) or not wish.begins:
            return  # it is gone already
        if container is not None and container.order.says_the_same(event.order):
            # The same wish once more, and the server has yet to hear that it was fulfilled: what
            # has run must not run again because a command came twice.
            return
        try:
            self._ledger = self._ledger.reserve(id_, event.order.limits)
        except CapacityExhausted as exc:
            reason = TerminationReason.STARTUP_FAILED_INTERNAL_ERROR
            self._refuse(turn, event.order, Ending(reason=reason, message=str(exc), code=exc.code))
            return
        incarnation = 1 if container is None else container.incarnation + 1
        token = secrets.token_hex(32)
        self._enter(
            turn,
            container,
            machine.begin(event.order, incarnation=incarnation, token=token, now=now),
        )

    def _refuse(self, turn: _Turn, order: Order, why: Ending) -> None:
        before = self._containers.get(order.id)
        if before is not None and not isinstance(before.life, Terminated):
            log.warning(
                "Refused a new order for what lives", container_id=order.id, why=why.message
            )
            return
        incarnation = 1 if before is None else before.incarnation + 1
        self._enter(turn, before, machine.refuse(order, why, incarnation=incarnation))

    def _step(self, turn: _Turn, container: Container, event: Event, now: float) -> None:
        try:
            after = machine.step(container, event, now, self._use.grace_seconds)
        except KernelBug as bug:
            log.exception("Container quarantined", container_id=container.id, state=container.life)
            after = machine.quarantine(container, bug)
        self._enter(turn, container, after)

    def _enter(self, turn: _Turn, before: Container | None, after: machine.Step) -> None:
        container, effects = after
        if container != before:
            self._containers[container.id] = container
            turn.put[container.id] = container
            turn.forget.discard(container.id)
        if before is None or type(before.life) is not type(container.life):
            self._moved(before, container)
        for effect in effects:
            match effect:
                case ReportStarted():
                    self._report(turn, ContainerStarted(container=container.id))
                case ReportTerminated(why=why):
                    self._ledger = self._ledger.release(container.id)
                    self._report(
                        turn,
                        ContainerTerminated(
                            container=container.id, incarnation=container.incarnation, why=why
                        ),
                    )
                case Forget():
                    turn.forget.add(container.id)
                    turn.put.pop(container.id, None)
                    del self._containers[container.id]
                    turn.release.append((container, effect))
                case _:
                    turn.release.append((container, effect))

    def _moved(self, before: Container | None, after: Container) -> None:
        was = before.life.tag if before else "unknown"
        why: Ending | None = getattr(after.life, "why", None)
        self._use.transitions.publish(after.id, was, after.life.tag, why.reason if why else "")
        fields = {"reason": why.reason.value, "why": why.message} if why else {}
        log.info(
            "Container state changed",
            container_id=after.id,
            sandbox_id=after.order.sandbox_id,
            state=after.life.tag,
            **fields,
        )

    def _report(self, turn: _Turn, report: Report) -> None:
        self._last_report += 1
        turn.reports.append(Numbered(number=self._last_report, report=report))

    def _delivered(self, turn: _Turn, number: int, now: float) -> None:
        report = self._reports.pop(number)
        turn.delivered.add(number)
        if not isinstance(report, ContainerTerminated):
            return
        container = self._containers.get(report.container)
        if (
            container is not None
            and container.incarnation == report.incarnation
            and isinstance(container.life, Terminated)
        ):
            self._step(turn, container, Delivered(), now)

    def _is_current(self, ticket: Ticket, container: Container) -> bool:
        """Whether an effect is of this life, and was not abandoned since."""
        floor = self._floor.get(ticket.container, 0)
        return ticket.incarnation == container.incarnation and ticket.number > floor

    async def _settle(self, turn: _Turn) -> None:
        changes = turn.changes()
        self._use.boundary("commit:before")
        while True:
            try:
                await self._use.store.commit(changes)
                break
            except BackendError as exc:
                log.error("Cannot write the worker's state; trying again", why=str(exc))  # noqa: TRY400  # a state of the disk, not a bug
                await anyio.sleep(RETRY_COMMIT_SECONDS)
        self._use.boundary("commit:after")
        for item in turn.reports:
            self._reports[item.number] = item.report
        for container, effect in turn.release:
            self._release(container, effect)
        if changes or turn.release:
            self._changed.set()
            self._changed = anyio.Event()

    def _release(self, container: Container, effect: Effect) -> None:
        lanes = self._lanes
        if lanes is None:
            raise KernelBug("effects were released before recovery")
        match effect:
            case Publish(container=published):
                self._use.routes.put(published)
            case Wake(at=at):
                self._wakes[container.id] = at
            case Abandon():
                self._floor[container.id] = self._last_effect
                lanes.abandon(container.id)
            case Forget():
                for kept in (self._floor, self._wakes):
                    with suppress(KeyError):
                        del kept[container.id]
                self._use.routes.drop(container.id)
                lanes.forget(container.id)
            case Watch() | Ask():
                lanes.watch(self._ticket(container.id, container.incarnation), effect)
            case ReportStarted() | ReportTerminated():
                raise KernelBug("reports are committed, not released")
            case _:
                lanes.submit(self._ticket(container.id, container.incarnation), effect)

    def _ticket(self, id_: ContainerId, incarnation: int) -> Ticket:
        self._last_effect += 1
        return Ticket(container=id_, incarnation=incarnation, number=self._last_effect)
