"""What can be seen of the host, before a law and after it. What is new then was left behind.

Other people's work may go on beside the kit. So the law's own is told apart, by any of these:

- It bears the law's mark, as the containers of one law do in their ids, their owner, their
  directories and their environment; or, where names must be short, the first eight hexadecimal
  digits of the SHA-256 of the owner.
- It was *recognised*: while processes with the mark ran, it was seen to be theirs. That is how
  engines' things are known, which bear names of their own: the groups, the network namespaces and
  the roots of these processes, whoever else is in there, and whoever has started them.
- On a host of its own (`exclusive`), whatever is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from longshore_core.testing import things
from longshore_core.testing.things import Process, Thing

VANISH_SECONDS: Final = 2.0
"""For what is on its way out."""
_INIT: Final = 1
_MADE_ANEW: Final = ("cgroup", "mount", "network namespace", "interface", "rule")


@dataclass(frozen=True, slots=True)
class Seen:
    """The host at one moment, by kind."""

    keys: Mapping[str, frozenset[str]]
    """Of everything."""
    own: Mapping[str, Mapping[str, str]]
    """What is the law's: how it is shown, by its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """Looks at the host. Blocking: to be used from a thread."""

    mark: str
    """What the law's own things bear."""
    root: Path
    """The law's directory: files below it are looked at one by one."""
    scratch: Path
    """Of the law itself, below `root`, as is the state of its guest: nobody's leak."""
    exclusive: bool = False
    """Whether nobody else works on this host, so that whatever is new counts."""
    pid: int = field(default_factory=os.getpid)
    _owners: set[str] = field(default_factory=set[str], init=False)
    """Marks of the law's owners."""
    _recognised: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]], init=False)
    """Kind and key."""

    def add_owner(self, owner: str) -> None:
        """From now on, its short mark is the law's as well."""
        self._owners.add(hashlib.sha256(owner.encode()).hexdigest()[:8])

    def look(self, *, closed: bool = False) -> Seen:
        """Everything. When the plugin is `closed`, what it keeps for its owner's whole life is the
        law's as well, and not before."""
        running = list(things.processes())
        kin = {process.key for process in self._kin(running)}
        held = self._held(process for process in running if process.key in kin)
        marks = {self.mark, *self._owners} if closed else {self.mark}
        keys = dict[str, frozenset[str]]()
        own = dict[str, Mapping[str, str]]()
        for kind, found in self._all(running):
            keys[kind] = frozenset(thing.key for thing in found)
            own[kind] = {
                thing.key: thing.shown
                for thing in found
                if (kind, thing.key) in self._recognised
                or self._is_own(kind, thing, kin, held, marks)
            }
        return Seen(keys, own)

    def running(self) -> frozenset[str]:
        """The keys of all processes."""
        return frozenset(process.key for process in things.processes())

    def before_opening(self, running: frozenset[str], opened: Seen) -> Seen:
        """The host before the plugin was opened, by what ran then and a look right afterwards,
        taken as if it were closed.

        What bears a mark was made since. Files may be what plugins keep from one life to the next,
        and what this process has open is not all theirs.
        """
        keys = dict(opened.keys)
        if not self.exclusive:
            for kind in _MADE_ANEW:
                keys[kind] -= opened.own[kind].keys()
        return Seen({**keys, "process": running}, opened.own)

    def recognise(self, interface: str | None = None) -> None:
        """Learn what there is now that belongs to the law's processes, though it does not bear the
        mark. `interface` is the host's side of a container's network."""
        running = {process.pid: process for process in things.processes()}
        kin = self._kin(running.values())
        spaces = {process.namespace for process in kin} - {_own_namespace(), ""}
        kin += [each for each in running.values() if each.namespace in spaces and each not in kin]
        groups = frozenset[str]().union(*(things.cgroups_of(each.pid) for each in kin))
        groups -= things.cgroups_of(self.pid)
        roots = {things.root_of(each.pid) for each in kin} - {"", things.root_of(self.pid)}
        parents = {each.parent for each in kin} - {_INIT}
        theirs: dict[str, Sequence[Thing]] = {
            "process": [*kin, *(running[pid] for pid in parents & running.keys())],
            "mount": [each for each in things.mounts() if each.identity in roots | spaces],
            "network namespace": [each for each in things.namespaces() if each.text in spaces],
        }
        if groups:
            theirs["cgroup"] = [x for x in things.cgroups() if _is_below(x.key, groups)]
        if interface is not None:
            theirs["interface"] = [x for x in things.interfaces() if x.shown == interface]
            theirs["rule"] = [x for x in things.rules() if _names(x, interface)]
        for kind, found in theirs.items():
            self._recognised.update((kind, thing.key) for thing in found)

    def sweep(self) -> None:
        """End what bears the mark: it was named as a leak, and is not to stay."""
        for process in things.processes():
            # One that has ended meanwhile, or is another user's, is not ours to end.
            with contextlib.suppress(OSError):
                if self.mark in process.text and process.pid != self.pid:
                    os.kill(process.pid, signal.SIGKILL)
        for thing in things.temporary_files():
            if self.mark in thing.shown:
                with contextlib.suppress(OSError):
                    os.unlink(thing.shown)

    def _all(self, running: Iterable[Process]) -> Iterable[tuple[str, list[Thing]]]:
        yield "process", list(running)
        yield "cgroup", list(things.cgroups())
        yield "mount", list(things.mounts())
        yield "network namespace", list(things.namespaces())
        yield "interface", list(things.interfaces())
        yield "rule", list(things.rules())
        yield "port", list(things.ports())
        yield "file", list(things.files(self.root, {self.scratch, self.root / "guest"}))
        yield "temporary file", list(things.temporary_files())
        yield "descriptor", list(things.descriptors(self.pid))

    def _is_own(
        self, kind: str, thing: Thing, kin: set[str], held: set[str], marks: set[str]
    ) -> bool:
        match kind:
            case "process":
                # Also on a host of its own: the kernel's threads come and go as they like.
                return thing.key in kin
            case "port":
                return self.exclusive or thing.text in held
            case "file" | "descriptor":
                return True
            case "temporary file" if Path(thing.shown) == self.root:
                return False
            case _:
                text = f"{thing.shown}\n{thing.text}"
                return self.exclusive or any(mark in text for mark in marks)

    def _kin(self, running: Iterable[Process]) -> list[Process]:
        """Those that bear the mark, and whatever descends from this process, zombies too."""
        parents = {process.pid: process.parent for process in running}
        return [
            process
            for process in running
            if self.mark in process.text or self._descends(process.pid, parents)
        ]

    def _descends(self, pid: int, parents: Mapping[int, int]) -> bool:
        while pid := parents.get(pid, 0):
            if pid == self.pid:
                return True
        return False

    def _held(self, kin: Iterable[Process]) -> set[str]:
        """What the law's processes have open, and this one."""
        pids = {process.pid for process in kin} | {self.pid}
        return {target for pid in pids for target in things.targets(pid)}


def leaks(before: Seen, after: Seen) -> tuple[str, ...]:
    """What is there after and was not before, each with its kind."""
    return tuple(
        f"{kind} {shown}"
        for kind, found in after.own.items()
        for key, shown in sorted(found.items())
        if key not in before.keys.get(kind, ())
    )


async def find_leaks(
    view: HostView, before: Seen, seconds: float, *, closed: bool = False
) -> tuple[str, ...]:
    """What is new on the host and still there after so long: what is on its way out is no leak."""
    deadline = time.monotonic() + seconds
    look = partial(view.look, closed=closed)
    while True:
        left = leaks(before, await to_thread.run_sync(look))
        if not left or time.monotonic() >= deadline:
            return left
        await anyio.sleep(0.05)


def _own_namespace() -> str:
    return os.readlink("/proc/self/ns/net")


def _names(rule: Thing, interface: str) -> bool:
    """Whether a rule is about the interface: nft has names in quotes."""
    return interface in rule.shown.replace('"', " ").split()


def _is_below(path: str, groups: Iterable[str]) -> bool:
    """Whether a cgroup's directory is one of the groups, in whichever hierarchy, or below one."""
    return any(path.endswith(group) or f"{group}/" in path for group in groups)
