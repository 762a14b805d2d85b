"""A readiness loop: coroutines that wait for descriptors, bells and deadlines.

Three rules. A task runs until it awaits a `Wait`; nothing else suspends it. At most one task waits
for a descriptor at a time. Whoever could go on for ever without waiting awaits `pause()` in turn.
"""

from __future__ import annotations

import sys
from select import EPOLLHUP, EPOLLIN, EPOLLOUT, epoll
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from typing import Any, TypeAlias

    Job: TypeAlias = Coroutine[Any, Any, None]

READ = EPOLLIN
WRITE = EPOLLOUT
GONE = EPOLLHUP
"""Both directions are shut; epoll reports it in any case, so alone it asks for nothing else."""
_NEVER = float("inf")


class Bell:
    """Wakes all tasks that wait for it. It remembers nothing: look first, then wait."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[Task, None] = {}

    def ring(self) -> None:
        for task in list(self.waiting):
            task.wake(True)


class Wait:
    """Suspends a task until one of these happens. Awaiting it answers False at the deadline."""

    __slots__ = ("bells", "deadline", "descriptors", "fired")

    def __init__(
        self,
        *descriptors: tuple[int, int],
        bells: tuple[Bell, ...] = (),
        deadline: float = _NEVER,
    ) -> None:
        self.descriptors = descriptors
        self.bells = bells
        self.deadline = deadline
        self.fired: int | None = None
        """The descriptor that ended the wait, if one did."""

    def __await__(self) -> Generator[Wait, bool, bool]:
        return (yield self)


_PAUSE = Wait(deadline=0.0)


def pause() -> Wait:
    """Let the other tasks have their turn. Those who wait for what is there by now come later: who
    is on its way reads what was written first before anybody reads what was written next."""
    return _PAUSE


class Task:
    """A coroutine on its way."""

    __slots__ = ("_answer", "coroutine", "done", "loop", "wait")

    def __init__(self, loop: Loop, coroutine: Job) -> None:
        self.loop = loop
        self.coroutine = coroutine
        self.wait: Wait | None = None
        self.done = False
        self._answer: bool | None = None

    def wake(self, answer: bool) -> None:
        """Go on with what it waits for answered; nothing if that has happened already."""
        if self.wait is not None:
            self.loop.forget(self, self.wait)
            self.wait = None
            self._answer = answer
            self.loop.ready.append(self)

    def step(self) -> None:
        try:
            wait = self.coroutine.send(self._answer)
            if wait is _PAUSE:
                self._answer = False
                self.loop.ready.append(self)
                return
            self.loop.watch(self, wait)
        except StopIteration:
            self.done = True
        except Exception as exc:  # noqa: BLE001  # PID 1 outlives a defect in one task of its own
            sys.excepthook(type(exc), exc, exc.__traceback__)
            self.done = True
        else:
            self.wait = wait


class Loop:
    """Runs tasks until the first of them is done."""

    def __init__(self) -> None:
        self.ready: list[Task] = []
        self._epoll = epoll()
        self._watched: dict[int, Task] = {}
        self._deadlines: dict[Task, float] = {}
        self._earliest = _NEVER

    def start(self, coroutine: Job) -> Task:
        task = Task(self, coroutine)
        self.ready.append(task)
        return task

    def run(self, coroutine: Job) -> None:
        main = self.start(coroutine)
        while not main.done:
            self._poll()
            ready, self.ready = self.ready, []
            for task in ready:
                task.step()

    def watch(self, task: Task, wait: Wait) -> None:
        watched: list[int] = []
        try:
            for descriptor, mask in wait.descriptors:
                self._epoll.register(descriptor, mask)
                watched.append(descriptor)
        except OSError:
            for descriptor in watched:
                self._epoll.unregister(descriptor)
            raise
        self._watched.update(dict.fromkeys(watched, task))
        for bell in wait.bells:
            bell.waiting[task] = None
        if wait.deadline != _NEVER:
            self._deadlines[task] = wait.deadline
            self._earliest = min(self._earliest, wait.deadline)

    def forget(self, task: Task, wait: Wait) -> None:
        for descriptor, _ in wait.descriptors:
            self._epoll.unregister(descriptor)
            del self._watched[descriptor]
        for bell in wait.bells:
            bell.waiting.pop(task, None)
        self._deadlines.pop(task, None)

    def _poll(self) -> None:
        if self.ready:
            timeout = 0.0
        elif self._earliest == _NEVER:
            timeout = -1.0
        else:
            timeout = max(0.0, self._earliest - monotonic())
        for descriptor, _ in self._epoll.poll(timeout, 64):
            # An earlier one of the same batch may have woken the task that waits for several.
            task = self._watched.get(descriptor)
            if task is not None and task.wait is not None:
                task.wait.fired = descriptor
                task.wake(True)
        if self._earliest <= (now := monotonic()):
            self._expire(now)

    def _expire(self, now: float) -> None:
        for task, deadline in list(self._deadlines.items()):
            if deadline <= now:
                task.wake(False)
        self._earliest = min(self._deadlines.values(), default=_NEVER)
