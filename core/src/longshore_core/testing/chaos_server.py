"""The server of a chaos run: what it wants, what it was told, and whether the two fit."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

from longshore_core._errors import KernelBug, LongshoreError
from longshore_core._machine.life import Running, Terminated, TerminationReason
from longshore_core._machine.reports import ContainerTerminated, Report
from longshore_core._model import ContainerId, Exit
from longshore_core.testing.chaos_plan import MOST_LIVES, Kind, Life, Want
from longshore_core.testing.chaos_worker import Worker

_EXITS: Final = {Kind.QUICK: Exit(code=3), Kind.KILLED: Exit(signal=10)}
"""How a container ends that ends by itself."""


class Server:
    """Keeps the rules of the real one: at least once, and never an id before its end is known."""

    def __init__(self, mark: str, place: Path) -> None:
        self.problems: list[str] = []
        self.lives: defaultdict[ContainerId, list[Life]] = defaultdict(list)
        self.desired: dict[ContainerId, Life] = {}
        self.ends: defaultdict[ContainerId, list[ContainerTerminated]] = defaultdict(list)
        self._mark = mark
        self._place = place
        self._unwanted = set[Life]()
        self._accepted = set[Life]()
        self._heard = 0

    async def connect(self, worker: Worker) -> None:
        """Hear what a worker has, and ask for what it lacks, as after a registration."""
        await self.collect(worker)
        there = worker.desk.containers
        for id_ in [id_ for id_ in there if id_ not in self.desired]:
            await worker.desk.unwant(id_)
        for id_, life in list(self.desired.items()):
            if id_ not in there:
                if life in self._accepted:
                    self.problems.append(f"{id_} was accepted, and is lost without a word")
                await self._ask_for(worker, life)

    async def collect(self, worker: Worker) -> None:
        """Take the reports that there are."""
        reports = worker.desk.reports
        for item in reports:
            if item.number > self._heard:
                self._heard = item.number
                self._hear(item.report)
        await worker.desk.taken(frozenset(item.number for item in reports))

    async def want(self, worker: Worker, step: Want) -> None:
        """Want one more, unless there are as many as the worker has room for."""
        if len({*self.desired, *worker.desk.containers}) >= MOST_LIVES:
            return
        ended = [id_ for id_ in self.lives if self._is_over(id_, worker)]
        id_ = ended[0] if step.again and ended else self._fresh_id()
        life = Life(
            id=id_,
            number=len(self.lives[id_]) + 1,
            kind=step.kind,
            timeout_seconds=step.timeout_seconds,
        )
        self.lives[id_].append(life)
        self.desired[id_] = life
        await self._ask_for(worker, life)

    async def repeat(self, worker: Worker, which: float) -> None:
        """Ask once more for something that is wanted already."""
        if (id_ := self._pick(which)) is not None:
            await self._ask_for(worker, self.desired[id_])

    async def unwant(self, worker: Worker, which: float) -> None:
        if (id_ := self._pick(which)) is not None:
            self._unwanted.add(self.desired.pop(id_))
            await worker.desk.unwant(id_)

    async def unwant_all(self, worker: Worker) -> None:
        while self.desired:
            await self.unwant(worker, 0)

    def is_content(self, worker: Worker) -> bool:
        """Whether all that is wanted runs, nothing else is there, and nothing is left to say."""
        there = worker.desk.containers
        return (
            there.keys() == self.desired.keys()
            and all(isinstance(item.life, Running) for item in there.values())
            and not worker.desk.reports
        )

    def awaits_an_end(self) -> bool:
        """Whether something is wanted that ends, or never begins, by itself."""
        return any(not life.kind.lasts for life in self.desired.values())

    def judge_starts(self, noted: Counter[str], broken_off: Counter[str]) -> None:
        """No PID 1 was started twice in a life.

        `noted` counts the starts of drivers that keep a list of them; for each container, as many
        as in `broken_off` may be more, for the driver had undone those.
        """
        for id_, lives in self.lives.items():
            starts = max(noted[id_], sum(self._starts_of(life) for life in lives))
            if starts > len(lives) + broken_off[id_]:
                self.problems.append(f"{id_} was started {starts} times in {len(lives)} lives")

    def _starts_of(self, life: Life) -> int:
        marker = life.marker(self._place)
        return len(marker.read_text(encoding="utf-8").split()) if marker.exists() else 0

    async def _ask_for(self, worker: Worker, life: Life) -> None:
        await worker.desk.want(life.order(self._place))
        self._accepted.add(life)

    def _hear(self, report: Report) -> None:
        if not isinstance(report, ContainerTerminated):
            return
        id_ = report.container
        ends, lives = self.ends[id_], self.lives[id_]
        ends.append(report)
        if len(ends) > len(lives):
            self.problems.append(
                f"{id_} ended {len(ends)} times in {len(lives)} lives: {report.why}"
            )
            return
        life = lives[len(ends) - 1]
        if self.desired.get(id_) is life:
            del self.desired[id_]
        if complaint := self._complaint(life, report):
            self.problems.append(f"{id_}, a {life.kind.name}, {complaint}: {report.why}")

    def _complaint(self, life: Life, report: ContainerTerminated) -> str | None:
        """What is wrong with an end; `None`: it may be."""
        why = report.why
        if why.reason is TerminationReason.FUNCTION_CANCELLED:
            return None if life in self._unwanted else "was cancelled, and nobody asked for it"
        if why.reason is TerminationReason.FUNCTION_TIMEOUT:
            return None if life.timeout_seconds else "ran out of time, and had no limit"
        if why.code is not None:
            if why.code in (KernelBug.code, LongshoreError.code):
                return "ended by a defect of the kernel"
            return "was refused for want of room" if "cpu_millis" in why.message else None
        if why.exit is None or why.exit == Exit():
            return "ended, and nobody saw how"
        if why.exit != _EXITS.get(life.kind):
            return "ended otherwise than it does"
        return None

    def _is_over(self, id_: ContainerId, worker: Worker) -> bool:
        return len(self.ends[id_]) == len(self.lives[id_]) and id_ not in worker.desk.containers

    def _fresh_id(self) -> ContainerId:
        return ContainerId(f"{self._mark}-{len(self.lives) + 1}")

    def _pick(self, which: float) -> ContainerId | None:
        ids = list(self.desired)
        return ids[int(which * len(ids))] if ids else None


def shown(worker: Worker) -> str:
    """How the worker's containers stand, for a complaint."""
    states = [f"{id_} {item.life.tag}" for id_, item in worker.desk.containers.items()]
    quarantined = [
        item.life.why.message
        for item in worker.desk.containers.values()
        if item.quarantined and isinstance(item.life, Terminated)
    ]
    return ", ".join(states + quarantined) or "none"
