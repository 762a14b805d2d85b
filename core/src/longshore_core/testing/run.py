"""Running laws, one after the other, each on a bench and a host state directory of its own."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
from anyio import to_thread

from longshore_core._errors import LongshoreError
from longshore_core.testing.bench import Bench, SeamBench, Settings
from longshore_core.testing.expect import expect
from longshore_core.testing.host import VANISH_SECONDS, HostView, find_leaks
from longshore_core.testing.law import (
    Environment,
    Failed,
    Law,
    Missing,
    NotDeclared,
    Outcome,
    Passed,
    Verdict,
)
from longshore_core.testing.subject import Source, Subject, find_subject
from longshore_core.trees import delete_tree


@dataclass(slots=True)
class _Story:
    """What one law has come to, by now."""

    verdict: Verdict
    bench: SeamBench[Any] | None = None
    running: frozenset[str] = frozenset()
    """The processes that there were before the plugin was opened."""


async def run_laws(
    source: Source | Subject[Any],
    laws: Sequence[Law[Any]],
    *,
    options: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    tell: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Check a driver against laws, in their order. `tell` hears of each as it is done.

    For another kind of plugin, give a subject: `find_subject("open", kind="network")`.
    Raises UnknownPlugin, PluginLoadError and PluginContractError for a driver that cannot be used
    at all; whatever else goes wrong is a verdict.
    """
    subject = source if isinstance(source, Subject) else find_subject(source, options)
    outcomes = list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="longshore-kit-") as cache:
        chosen = settings or Settings()
        if chosen.cache is None:
            chosen = replace(chosen, cache=Path(cache))
        for law in laws:
            outcomes.append(await run_law(subject, law, chosen))
            if tell is not None:
                tell(outcomes[-1])
    return outcomes


async def run_law(subject: Subject[Any], law: Law[Any], settings: Settings) -> Outcome:
    """Check one law on a bench of its own, and compare the host before and after."""
    root = Path(tempfile.mkdtemp(prefix="law-"))
    view = HostView(
        mark=root.name,
        root=root,
        scratch=root / "scratch",
        exclusive=settings.exclusive_host,
    )
    story = _Story(Passed())
    began = time.monotonic()
    try:
        (root / "scratch").mkdir()
        await _judge(story, subject, law, settings, view)
        story.verdict = await _with_leaks(story, view)
        if isinstance(story.verdict, Failed):
            await to_thread.run_sync(view.sweep)
    finally:
        with contextlib.suppress(OSError):
            delete_tree(root)
    return Outcome(
        law=law,
        verdict=story.verdict,
        seconds=time.monotonic() - began,
        trace=tuple(story.bench.trace) if story.bench else (),
        measured=story.bench.measured if story.bench else {},
    )


async def _judge(
    story: _Story, subject: Subject[Any], law: Law[Any], settings: Settings, view: HostView
) -> None:
    deadline, seconds = anyio.CancelScope(), law.seconds * settings.patience
    try:
        with anyio.fail_after(seconds) as deadline:
            story.running = await to_thread.run_sync(view.running)
            async with open_bench(subject, settings, view) as bench:
                story.bench = bench
                reason = law.undeclared(bench.thing) if isinstance(bench, Bench) else None
                if reason is not None:
                    story.verdict = NotDeclared(reason=reason)
                    return
                bench.before = await to_thread.run_sync(partial(view.look, closed=True))
                bench.trace.clear()
                await law(bench)
    except Missing as exc:
        story.verdict = Environment(missing=str(exc))
    except TimeoutError:
        whole = f"was not done within {seconds:g} s"
        part = "waited in vain for something that was due"
        story.verdict = Failed(message=whole if deadline.cancel_called else part)
    except AssertionError as exc:
        story.verdict = Failed(message=str(exc) or "an assertion does not hold")
    except LongshoreError as exc:
        story.verdict = Failed(message=f"{type(exc).__name__}: {exc}")
    except Exception as exc:  # noqa: BLE001 -- a stranger's driver may make a law raise anything
        lacking = _missing(exc)
        story.verdict = Environment(missing=lacking) if lacking else Failed(message=_unfolded(exc))


@asynccontextmanager
async def open_bench(
    subject: Subject[Any], settings: Settings, view: HostView
) -> AsyncGenerator[SeamBench[Any]]:
    """A bench in the view's directory, with the plugin open; all is tidied up when it is left."""
    kind = Bench if subject.seam.path == "driver" else SeamBench[Any]
    bench = kind(subject, settings, view)
    await bench.open()
    try:
        yield bench
    except BaseException:
        await bench.tidy()
        raise
    left = await bench.tidy()
    expect(left is None, left or "")


async def _with_leaks(story: _Story, view: HostView) -> Verdict:
    verdict, bench = story.verdict, story.bench
    if bench is None or bench.before is None:
        return verdict
    before = view.before_opening(story.running, bench.before)
    left = await find_leaks(view, before, VANISH_SECONDS, closed=True)
    if not left or isinstance(verdict, NotDeclared):
        return verdict
    message = verdict.reason if isinstance(verdict, Failed) else ""
    return Failed(message=message, leaks=left)


def _missing(exc: Exception) -> str | None:
    """What the machine lacks, when tasks of a law have said nothing else."""
    if not isinstance(exc, ExceptionGroup):
        return None
    group = cast("ExceptionGroup[Exception]", exc)
    lacking, others = group.split(Missing)
    if lacking is None or others is not None:
        return None
    inner = lacking.exceptions[0]
    return _missing(inner) or str(inner)


def _unfolded(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        inner = group.exceptions
        return "; ".join(_unfolded(each) for each in inner)
    return str(exc) if isinstance(exc, AssertionError) else f"{type(exc).__name__}: {exc}"
