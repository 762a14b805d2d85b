"""Chaos: a worker's kernel over a driver that fails, restarted again and again, and then healed.

    python -m longshore_core.testing.chaos --driver fork_exec --seed 17
    python -m longshore_core.testing.chaos --driver fork_exec --runs 10000

Each run follows from its seed: what is wanted and unwanted, which faults strike which calls, where
the worker is cut off, when the disk stalls and the clock leaps. After it, faults stop, and this
must hold, whatever has happened: everything that is wanted runs, or its end was reported with a
reason of its own; nothing was started twice; no end was invented or told twice; nothing is left on
the host. How tasks interleave is the machine's affair, so that a seed that fails may have to be run
more than once.
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import anyio
import structlog
from anyio import to_thread

try:
    from sniffio import current_async_library
except ImportError:  # it comes with trio: without it there is asyncio only
    current_async_library = None  # type: ignore[assignment]  # as told by its absence

from longshore_core._errors import LongshoreError, UnsupportedCapability
from longshore_core._model import Gap, Phase, Transition
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.abc import Host, Runtime
from longshore_core.testing.bench import bare_host
from longshore_core.testing.chaos_plan import (
    Cut,
    Pass,
    Plan,
    Repeat,
    Restart,
    Stall,
    Step,
    Sweep,
    Unwant,
    Want,
    plan,
)
from longshore_core.testing.chaos_server import Server, shown
from longshore_core.testing.chaos_worker import (
    EXECUTOR,
    Clock,
    Fuse,
    PowerCut,
    Surroundings,
    Worker,
    open_backends,
    open_worker,
    stall,
    surroundings,
)
from longshore_core.testing.clock import Clocked
from longshore_core.testing.faulty import FaultyDriver
from longshore_core.testing.host import HostView, Seen, leaks
from longshore_core.testing.scripted import STARTS
from longshore_core.testing.subject import Subject, find_subject

PATIENCE_SECONDS: Final = 0.25
"""The deadline of each effect, where there are no programs to start."""
PATIENCE_FOR_PROGRAMS_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 30.0
_MOST_REFUSALS: Final = 5
"""How often a worker may refuse to start, before faults stop."""
_VANISH_SECONDS: Final = 2.0
_NAP_SECONDS: Final = 0.005
_NAP_FOR_PROGRAMS_SECONDS: Final = 0.02
"""How long to wait for a change that may not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosResult:
    """What came of one run."""

    seed: int
    reproducer: str
    """The command that does this run again."""
    problems: tuple[str, ...] = ()
    """What does not hold; none: all does."""
    seconds: float = 0
    lives: int = 0
    ends: int = 0
    workers: int = 0
    """How many workers there were, one after the other."""
    struck: int = 0
    """How many faults have struck."""

    def __str__(self) -> str:
        if not self.problems:
            return f"seed {self.seed}: well"
        listed = "".join(f"\n  {problem}" for problem in self.problems)
        return f"seed {self.seed}:{listed}\n  again: {self.reproducer}"


async def chaos_runs(
    driver: str | Subject[Runtime],
    seeds: Iterable[int],
    *,
    options: Mapping[str, Any] | None = None,
    tell: Callable[[ChaosResult], None] | None = None,
) -> list[ChaosResult]:
    """Run the seeds one after the other over `driver`: an entry point's name, `pkg:Thing`, or a
    subject. `tell` hears of each as it is done.

    Raises UnknownPlugin, PluginLoadError, PluginContractError and ConfigError for a driver that
    cannot be used at all, UnsupportedCapability for one whose containers nobody could watch here;
    whatever else goes wrong is a problem of its run.
    """
    subject: Subject[Runtime] = (
        driver if isinstance(driver, Subject) else find_subject(driver, options)
    )
    await _refuse_unwatched(subject)
    faulty: Subject[Runtime] = find_subject("faulty")
    around, results = surroundings(), list[ChaosResult]()
    for seed in seeds:
        run = _Run(seed, subject, faulty, around)
        with structlog.testing.capture_logs():
            results.append(await run.run())
        if tell is not None:
            tell(results[-1])
    return results


def unwatched(runtime: Runtime) -> str | None:
    """What a driver lacks for anybody to see here what becomes of its containers."""
    if runtime.facts.programs and runtime.facts.images:
        return "containers that see the host's files, in which PID 1 notes its starts"
    return "containers that live by the host's clock" if isinstance(runtime, Clocked) else None


async def _refuse_unwatched(subject: Subject[Runtime]) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        host = bare_host(subject.origin.name, f"{Path(place).name}/driver", Path(place))
        async with subject.open(host) as runtime:
            lacks = unwatched(runtime)
    if lacks is not None:
        raise UnsupportedCapability(f"chaos over {subject.origin.name}: it needs {lacks}")


@dataclass(slots=True)
class _Count:
    workers: int = 0
    refusals: int = 0
    struck: int = 0
    broken_off: Counter[str] = field(default_factory=Counter[str])


@dataclass(slots=True)
class _Progress:
    """How far a run has come: kept over the ends of its workers."""

    step: int = 0
    reopen: bool = False
    healed: bool = False
    done: bool = False
    count: _Count = field(default_factory=_Count)


class _Run:
    """One seed."""

    def __init__(
        self, seed: int, subject: Subject[Runtime], faulty: Subject[Runtime], around: Surroundings
    ) -> None:
        self._seed = seed
        self._subject = subject
        self._faulty = faulty
        self._around = around
        self._plan: Plan = plan(seed)
        self._place = Path(tempfile.mkdtemp(prefix=f"chaos{seed}-"))
        self._server = Server(self._place.name, self._place / "scratch")
        self._clock, self._fuse, self._at = Clock(), Fuse(), _Progress()

    async def run(self) -> ChaosResult:
        began = time.monotonic()
        try:
            (self._place / "scratch").mkdir()
            (self._place / "driver").mkdir()
            await self._all()
        finally:
            shutil.rmtree(self._place, ignore_errors=True)
        server, count = self._server, self._at.count
        return ChaosResult(
            seed=self._seed,
            reproducer=self._reproducer(),
            problems=tuple(dict.fromkeys(server.problems)),
            seconds=time.monotonic() - began,
            lives=sum(map(len, server.lives.values())),
            ends=sum(map(len, server.ends.values())),
            workers=count.workers,
            struck=count.struck,
        )

    async def _all(self) -> None:
        view = HostView(
            mark=self._place.name, root=self._place / "driver", scratch=self._place / "scratch"
        )
        before = await to_thread.run_sync(view.look)
        while not self._at.done:
            self._at.reopen = False
            async with self._open_driver() as driver:
                while not (self._at.done or self._at.reopen):
                    await self._one_worker(driver)
                faulty = _faults_of(driver)
                self._at.count.struck += len(faulty.struck)
                self._at.count.broken_off.update(faulty.broken_off)
        self._server.judge_starts(self._starts(), self._at.count.broken_off)
        self._server.problems += await self._leaks(view, before)

    @asynccontextmanager
    async def _open_driver(self) -> AsyncGenerator[AdaptedDriver]:
        async with self._subject.open(self._host("driver")) as runtime:
            inner = AdaptedDriver(runtime, self._subject.origin)
            faults = () if self._at.healed else self._plan.faults
            # Each opening has a luck of its own: else a restart would meet the same faults again.
            faulty = FaultyDriver(inner, faults, self._seed * 1000 + self._at.count.workers)
            yield AdaptedDriver(
                Runtime(driver=faulty, facts=runtime.facts),
                self._faulty.origin,
            )

    def _host(self, slot: str) -> Host:
        return Host(
            name=slot,
            owner=f"{self._place.name}/{slot}",
            state_dir=self._place / slot,
            logger=logging.getLogger(f"longshore.{EXECUTOR}"),
            transitions=_no_transitions,
        )

    async def _one_worker(self, driver: AdaptedDriver) -> None:
        """One worker's life, however it ends."""
        recovered = False
        self._at.count.workers += 1
        patience = PATIENCE_FOR_PROGRAMS_SECONDS if driver.facts.programs else PATIENCE_SECONDS
        try:
            async with (
                open_backends(self._around, driver, self._host("driver")) as backends,
                open_worker(self._place, backends, self._clock, self._fuse, patience) as worker,
            ):
                recovered = True
                await self._drive(worker)
        except* PowerCut:
            self._fuse.left = None
        except* LongshoreError as group:
            causes = "; ".join(map(_text, group.exceptions))
            if recovered or self._at.healed:
                self._server.problems.append(f"the worker died of {causes}")
                self._at.done = True
            self._at.count.refusals += 1
            if self._at.count.refusals >= _MOST_REFUSALS:
                self._at.step = len(self._plan.steps)
                _faults_of(driver).heal()

    async def _drive(self, worker: Worker) -> None:
        """Go on with the plan; when it is through, heal, and see what has become of everything."""
        await self._server.connect(worker)
        while self._at.step < len(self._plan.steps):
            step = self._plan.steps[self._at.step]
            waits = self._plan.waits[self._at.step]
            self._at.step += 1
            if isinstance(step, Restart):
                self._at.reopen = step.reopen and worker.driver.facts.recovers
                self._clock.advance(step.leap)
                return
            await self._do(worker, step)
            for _ in range(waits):
                await _nap(worker)
            await self._server.collect(worker)
        self._fuse.left = None
        if not self._at.healed:
            _faults_of(worker.driver).heal()
            await self._settle(worker, "after the faults stopped")
            # And all of it once more in the eyes of a worker that knows only what is on disk.
            self._at.healed = True
            self._at.reopen = worker.driver.facts.recovers
            return
        await self._settle(worker, "after a last restart", ends=worker.driver.facts.programs)
        await self._compare(worker)
        await self._server.unwant_all(worker)
        await self._settle(worker, "after all was unwanted")
        self._at.done = True

    async def _do(self, worker: Worker, step: Step) -> None:
        match step:
            case Want():
                await self._server.want(worker, step)
            case Unwant(which=which):
                await self._server.unwant(worker, which)
            case Repeat(which=which):
                await self._server.repeat(worker, which)
            case Sweep():
                worker.sweep()
            case Pass(seconds=seconds):
                await worker.pass_time(seconds)
            case Stall(seconds=seconds):
                worker.tasks.start_soon(stall, self._place, seconds)
            case Cut(boundary=boundary, reopen=reopen):
                self._at.reopen = reopen and worker.driver.facts.recovers
                self._fuse.left = boundary
            case Restart():
                return

    async def _settle(self, worker: Worker, when: str, *, ends: bool = False) -> None:
        """Wait until what is wanted runs and nothing else is left. `ends`: of what ends, too."""
        with anyio.move_on_after(SETTLE_SECONDS):
            while not self._server.is_content(worker) or (ends and self._server.awaits_an_end()):
                await self._server.collect(worker)
                # Every pause between attempts is over by then.
                await worker.pass_time(40)
                await _nap(worker)
            return
        self._server.problems.append(f"{when}, it did not come to rest: {shown(worker)}")
        self._at.done = True

    async def _compare(self, worker: Worker) -> None:
        """What the driver has must be what the worker believes."""
        found = {item.id: item.phase for item in await worker.driver.survey()}
        for id_ in {*found, *self._server.desired}:
            if id_ not in self._server.desired:
                self._server.problems.append(f"{id_} is an orphan, and {found[id_]}")
            elif found.get(id_) is not Phase.RUNNING:
                phase = found.get(id_, "not there")
                self._server.problems.append(f"{id_} should run, and is {phase}")
        if worker.keeper.quarantined:
            self._server.problems.append(f"{worker.keeper.quarantined} containers are quarantined")

    def _starts(self) -> Counter[str]:
        logs = list((self._place / "driver").rglob(STARTS))
        lines = [line for log in logs for line in log.read_text(encoding="utf-8").split()]
        for log in logs:
            log.unlink()
        return Counter(lines)

    async def _leaks(self, view: HostView, before: Seen) -> list[str]:
        deadline = time.monotonic() + _VANISH_SECONDS
        while left := leaks(before, await to_thread.run_sync(view.look)):
            if time.monotonic() >= deadline:
                return [f"left on the host: {name}" for name in left]
            await anyio.sleep(_NAP_SECONDS)
        return []

    def _reproducer(self) -> str:
        source = self._subject.source
        name = source if isinstance(source, str) else self._subject.origin.value
        words = ["python", "-m", "longshore_core.testing.chaos", "--driver", name]
        if self._subject.options:
            words += ["--config", json.dumps(dict(self._subject.options))]
        if (backend := _backend()) != "asyncio":
            words += ["--backend", backend]
        return shlex.join([*words, "--seed", str(self._seed)])


def _backend() -> str:
    return "asyncio" if current_async_library is None else current_async_library()


async def _nap(worker: Worker) -> None:
    """Wait for a change, or for as long as one takes."""
    programs = worker.driver.facts.programs
    with anyio.move_on_after(_NAP_FOR_PROGRAMS_SECONDS if programs else _NAP_SECONDS):
        await worker.keeper.changed()


def _faults_of(driver: AdaptedDriver) -> FaultyDriver:
    faulty = driver.runtime.driver
    assert isinstance(faulty, FaultyDriver)  # _open_driver has made it
    return faulty


def _text(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(map(_text, cast("BaseExceptionGroup[BaseException]", exc).exceptions))
    return f"{type(exc).__name__}: {exc}"


@asynccontextmanager
async def _no_transitions() -> AsyncGenerator[AsyncIterator[Transition | Gap]]:
    async def none() -> AsyncIterator[Transition | Gap]:
        await anyio.sleep_forever()
        yield Gap(first=0, last=0)

    yield none()
