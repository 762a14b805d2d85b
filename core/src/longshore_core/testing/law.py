"""A law: one promise that every plugin of a kind keeps, and what can come of checking it.

The vocabulary of the conformance kit. Nothing here runs anything, and nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Generic, TypeAlias, TypeGuard, TypeVar

from longshore_core._model import Facts, Limit, NetworkMode
from longshore_core.abc import Runtime

BenchT = TypeVar("BenchT")
Check: TypeAlias = Callable[[BenchT], Awaitable[None]]

KIT: Final = "1.0"
"""The version of the kit: a report says against which it was made."""


class Profile(StrEnum):
    """How much is asked of a plugin."""

    CORE = "core"
    """What it must keep, and what it declares; minutes at most."""
    FULL = "full"
    """All of core with larger numbers, and the laws that take long."""
    CHAOS = "chaos"
    SECURITY = "security"
    PERF = "perf"


@dataclass(frozen=True, slots=True)
class Capability:
    """Something that a driver may declare: a fact, or an ability that its `Runtime` has."""

    name: str
    declared: Callable[[Runtime], bool] = field(repr=False)


def _fact(name: str, holds: Callable[[Facts], bool]) -> Capability:
    return Capability(name, lambda runtime: holds(runtime.facts))


def _limit(limit: Limit) -> Capability:
    return _fact(f"limits.{limit}", lambda facts: limit in facts.limits)


PROGRAMS: Final = _fact("programs", lambda facts: facts.programs)
SOCKETS: Final = _fact("sockets", lambda facts: facts.programs and facts.sockets)
RECOVERS: Final = _fact("recovers", lambda facts: facts.recovers)
IMAGES: Final = _fact("images", lambda facts: facts.images)
MOUNTS: Final = _fact("mounts", lambda facts: facts.mounts)
NETWORK: Final = _fact("network", lambda facts: facts.network is not NetworkMode.NONE)
TTY: Final = _fact("tty", lambda facts: facts.tty)
LIVE_SNAPSHOT: Final = _fact("live_snapshot", lambda facts: facts.live_snapshot)
LIMITS: Final[Mapping[Limit, Capability]] = MappingProxyType(
    {limit: _limit(limit) for limit in Limit}
)
IMAGE_STORE: Final = Capability("a store of images", lambda runtime: runtime.images is not None)
HEALTH: Final = Capability("health", lambda runtime: runtime.health is not None)
PAUSE: Final = Capability("pause", lambda runtime: runtime.pause is not None)
USAGE: Final = Capability("usage", lambda runtime: runtime.usage is not None)
LOGS: Final = Capability("logs", lambda runtime: runtime.logs is not None)
EXEC: Final = Capability("exec", lambda runtime: runtime.exec is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law(Generic[BenchT]):
    """One promise. It is called with a bench, and returns when the promise was kept.

    It raises AssertionError when not, and Missing when this machine cannot tell.
    """

    id: str
    """As the catalogue has it: the letter of the group and a number. Unique."""
    group: str
    check: Check[BenchT]
    requires: tuple[Capability, ...] = ()
    """Checked only for a driver that declares all of these."""
    requires_not: tuple[Capability, ...] = ()
    """Checked only for a driver that declares none of these: the other side of a promise."""
    profiles: frozenset[Profile] = frozenset({Profile.CORE, Profile.FULL})
    seconds: float = 30.0
    """How long the check may take; longer is a failure."""
    since: str = "1.0"
    """The version of the kit that brought it."""
    traced: bool = False
    """What happens in it is a sequence, which two drivers must have in common."""

    @property
    def name(self) -> str:
        return getattr(self.check, "__name__", self.id)

    @property
    def promise(self) -> str:
        """What is promised, as a sentence."""
        words = self.name.replace("_", " ")
        return words[:1].upper() + words[1:]

    async def __call__(self, bench: BenchT) -> None:
        await self.check(bench)

    def undeclared(self, runtime: Runtime) -> str | None:
        """Why it is not a matter for a driver like this; `None` when it is."""
        lacking = [need.name for need in self.requires if not need.declared(runtime)]
        if lacking:
            return f"does not declare {', '.join(lacking)}"
        beyond = [need.name for need in self.requires_not if need.declared(runtime)]
        return f"declares {', '.join(beyond)}" if beyond else None


@dataclass(frozen=True, slots=True)
class Group(Generic[BenchT]):
    """Laws that belong together. `law` makes one of a function."""

    name: str
    requires: tuple[Capability, ...] = ()
    """Of every law in it."""
    profiles: frozenset[Profile] = frozenset({Profile.CORE, Profile.FULL})

    def law(
        self,
        id_: str,
        *,
        requires: tuple[Capability, ...] = (),
        requires_not: tuple[Capability, ...] = (),
        **rest: object,
    ) -> Callable[[Check[BenchT]], Law[BenchT]]:
        """Mark a function as the check of a law; the rest are fields of `Law`."""
        fields: dict[str, object] = {"profiles": self.profiles, **rest}

        def make(check: Check[BenchT]) -> Law[BenchT]:
            return Law(
                id=id_,
                group=self.name,
                check=check,
                requires=(*self.requires, *requires),
                requires_not=requires_not,
                **fields,  # type: ignore[arg-type]  # by their names in Law
            )

        return make


def laws_in(namespace: Mapping[str, object]) -> tuple[Law[Any], ...]:
    """The laws among a module's names, in the order in which they stand."""
    return tuple(thing for thing in namespace.values() if _is_law(thing))


def _is_law(thing: object) -> TypeGuard[Law[Any]]:
    return isinstance(thing, Law)


class Missing(Exception):
    """This machine lacks what it takes to tell. The text names it."""


# What can come of a check.


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    word: str = "passed"

    @property
    def reason(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The promise was broken, or something was left on the host."""

    message: str = ""
    leaks: tuple[str, ...] = ()
    """What is on the host that was not there before, each named."""
    word: str = "failed"

    @property
    def reason(self) -> str:
        left = f"left on the host: {', '.join(self.leaks)}" if self.leaks else ""
        return "; ".join(filter(None, (self.message, left)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDeclared:
    """The promise is not this driver's: `reason` has what it does, or does not, declare."""

    reason: str
    word: str = "not declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Nobody knows: this machine lacks `missing`."""

    missing: str
    word: str = "environment"

    @property
    def reason(self) -> str:
        return f"missing: {self.missing}"


Verdict: TypeAlias = Passed | Failed | NotDeclared | Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one law."""

    law: Law[object]
    verdict: Verdict
    seconds: float = 0.0
    trace: tuple[str, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict[str, float])


def in_profile(laws: Sequence[Law[BenchT]], profile: Profile) -> tuple[Law[BenchT], ...]:
    """Those of the laws that a profile asks for."""
    return tuple(law for law in laws if profile in law.profiles)
