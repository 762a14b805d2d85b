"""What a driver was asked and what it answered, in words that do not depend on the driver.

Two drivers that keep the same laws answer alike; where they do not, `difference` says from where
on. Ids, paths and pids are left out, and so is the wording of errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import TypeVar

from longshore_core._errors import LongshoreError
from longshore_core._model import Attachment, ContainerSpec, Exit, Found, Handle
from longshore_core.abc import Driver

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class TracedDriver(Driver):
    """Passes every call on, and tells of each when it has been answered."""

    driver: Driver
    mark: str
    tell: Callable[[str], None]

    async def create(self, spec: ContainerSpec) -> Handle:
        return await self._traced(f"create {self._plain(spec.id)}", self.driver.create(spec))

    async def start(self, handle: Handle) -> Attachment:
        return await self._traced(f"start {self._plain(handle.id)}", self.driver.start(handle))

    async def wait(self, handle: Handle) -> Exit:
        return await self._traced(f"wait {self._plain(handle.id)}", self.driver.wait(handle))

    async def signal(self, handle: Handle, signal: Signals) -> None:
        what = f"signal {self._plain(handle.id)} {signal.name}"
        await self._traced(what, self.driver.signal(handle, signal))

    async def remove(self, handle: Handle) -> None:
        await self._traced(f"remove {self._plain(handle.id)}", self.driver.remove(handle))

    async def survey(self) -> Sequence[Found]:
        return await self._traced("survey", self.driver.survey())

    async def _traced(self, call: str, answer: Awaitable[AnswerT]) -> AnswerT:
        try:
            got = await answer
        except LongshoreError as exc:
            self.tell(f"{call} -> {type(exc).__name__}")
            raise
        self.tell(f"{call} -> {self._normal(got)}")
        return got

    def _plain(self, id_: str) -> str:
        return id_.removeprefix(f"{self.mark}-")

    def _normal(self, answer: object) -> str:
        match answer:
            case Exit(code=code, signal=signal, oom=oom):
                return f"exit code={code} signal={signal} oom={oom}"
            case Handle():
                return "handle"
            case Attachment():
                return "attachment"
            case None:
                return "done"
            case list() | tuple():
                return f"[{', '.join(sorted(self._normal(each) for each in answer))}]"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            case Found(id=id_, phase=phase, exit=None):
                return f"{self._plain(id_)} {phase}"
            case Found(id=id_, phase=phase, exit=exit_):
                return f"{self._plain(id_)} {phase} {self._normal(exit_)}"
            case _:
                return type(answer).__name__


def difference(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Where two traces part, in words; `None` when they do not."""
    for number in range(max(len(ours), len(theirs))):
        left = ours[number] if number < len(ours) else "(nothing more)"
        right = theirs[number] if number < len(theirs) else "(nothing more)"
        if left != right:
            return f"step {number + 1}: {left}, against {right}"
    return None
