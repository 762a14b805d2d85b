"""What can be seen of the host, before a law and after it. What is new then was left behind.

Other people's work may go on beside the kit. So it is told apart by a mark: the containers of one
law carry it in their ids, their owner, their directories and their environment, and what carries
it is the law's. On a host of its own (`exclusive`), whatever is new counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

_CGROUPS: Final = Path("/sys/fs/cgroup")
_NAMESPACES: Final = (Path("/run/netns"), Path("/run/docker/netns"))
_RULES: Final = (("iptables-save",), ("ip6tables-save",), ("nft", "list", "ruleset"))
_LISTENING: Final = "0A"
_RULES_SECONDS: Final = 10
_DEPTH: Final = 16
"""What lies deeper in a directory is not looked at: it does not stay without what is above it."""
_COUNTERS: Final = re.compile(r"\[\d+:\d+\]|packets \d+ bytes \d+")

VANISH_SECONDS: Final = 2.0
"""For what is on its way out."""

Seen = Mapping[str, frozenset[str]]


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

    def look(self) -> Seen:
        """Everything, by kind."""
        processes = dict(self._processes())
        return {
            "process": frozenset(processes.values()),
            "cgroup": frozenset(self._cgroups()),
            "mount": frozenset(self._mounts()),
            "network namespace": frozenset(self._namespaces()),
            "rule": frozenset(self._rules()),
            "port": frozenset(self._ports(set(processes))),
            "file": frozenset(self._files()),
            "temporary file": frozenset(self._temporary()),
            "descriptor": frozenset(self._descriptors()),
        }

    def sweep(self) -> None:
        """End what bears the mark: it was named as a leak, and is not to stay."""
        for name in filter(str.isdigit, os.listdir("/proc")):
            # One that has ended meanwhile, or is another user's, is not ours to end.
            with contextlib.suppress(OSError):
                marked = self.mark.encode() in _read(f"/proc/{name}/environ")
                if marked and int(name) != self.pid:
                    os.kill(int(name), signal.SIGKILL)
        for path in self._temporary():
            if self.mark in path:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _counts(self, text: str) -> bool:
        return self.exclusive or self.mark in text

    def _processes(self) -> Iterator[tuple[int, str]]:
        """Those that bear the mark, and whatever descends from this process, zombies too."""
        parents = dict[int, int]()
        found = dict[int, str]()
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
                line = _read(f"/proc/{pid}/cmdline")
                environment = _read(f"/proc/{pid}/environ")
            except OSError:
                continue  # it has ended, or is another user's
            parents[pid] = int(fields[1])
            shown = line.replace(b"\0", b" ").decode(errors="replace").strip()[:80]
            zombie = " (zombie)" if fields[0] == b"Z" else ""
            found[pid] = f"{pid}{zombie} {shown or '(no arguments)'}"
            if self.mark.encode() in environment + line:
                yield pid, found[pid]
        for pid in found:
            if self._descends(pid, parents):
                yield pid, found[pid]

    def _descends(self, pid: int, parents: Mapping[int, int]) -> bool:
        while pid := parents.get(pid, 0):
            if pid == self.pid:
                return True
        return False

    def _cgroups(self) -> Iterator[str]:
        yield from (path for path in _groups(str(_CGROUPS)) if self._counts(path))

    def _mounts(self) -> Iterator[str]:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split(" ")
            if self._counts(line):
                yield f"{fields[4]} ({line.partition(' - ')[2].split(' ')[0]})"

    def _namespaces(self) -> Iterator[str]:
        for directory in _NAMESPACES:
            if os.access(directory, os.R_OK | os.X_OK):
                yield from (str(path) for path in directory.iterdir() if self._counts(str(path)))

    def _rules(self) -> Iterator[str]:
        for command in _RULES:
            if shutil.which(command[0]):
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=_RULES_SECONDS
                )
                lines = (_COUNTERS.sub("", line).strip() for line in done.stdout.splitlines())
                yield from (
                    f"{command[0]}: {line}"
                    for line in lines
                    if line and not line.startswith("#") and self._counts(line)
                )

    def _ports(self, own: set[int]) -> Iterator[str]:
        """Listening sockets that are held by the law's processes, or by this one."""
        holders = dict[str, int]()
        for pid in own | {self.pid}:
            for target in _descriptors(pid):
                if target.startswith("socket:["):
                    holders[target.removeprefix("socket:[").rstrip("]")] = pid
        for table in ("tcp", "tcp6"):
            try:
                lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            except OSError:
                continue
            for fields in (line.split() for line in lines):
                if fields[3] == _LISTENING and (self.exclusive or fields[9] in holders):
                    yield f"{table} {int(fields[1].rpartition(':')[2], 16)}"

    def _files(self) -> Iterator[str]:
        """Those in the state directories that plugins were lent; not these themselves."""
        aside = {self.scratch, self.root / "guest"}
        level = [path for path in _entries(self.root) if path not in aside]
        for depth in range(2, _DEPTH):
            level = [entry for path in level for entry in _entries(path)]
            for path in level:
                # A folder that waits for the next container is none that the last one has left.
                if depth > 2 or not _is_empty_directory(path):
                    yield str(path.relative_to(self.root))

    def _temporary(self) -> Iterator[str]:
        """At the top of the usual places only: what is below is somebody's."""
        for place in {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm", "/run"}:
            if os.path.isdir(place):
                for name in os.listdir(place):
                    path = f"{place}/{name}"
                    if self._counts(name) and Path(path) != self.root:
                        yield path

    def _descriptors(self) -> Iterator[str]:
        """This process's own, by what they are; how many of a kind is part of the name."""
        kinds = dict[str, int]()
        for target in _descriptors(self.pid):
            if not target.startswith("/proc/"):
                kind = target if target.startswith("/") else target.partition(":[")[0]
                kinds[kind] = kinds.get(kind, 0) + 1
        for kind, count in kinds.items():
            yield from (f"{kind} #{number}" for number in range(1, count + 1))


def leaks(before: Seen, after: Seen) -> tuple[str, ...]:
    """What is there after and was not before, each with its kind."""
    return tuple(
        f"{kind} {name}"
        for kind, names in after.items()
        for name in sorted(names - before.get(kind, frozenset()))
    )


async def find_leaks(
    view: HostView, before: Mapping[str, frozenset[str]], seconds: float
) -> tuple[str, ...]:
    """What is new on the host and still there after so long: what is on its way out is no leak."""
    deadline = time.monotonic() + seconds
    while True:
        left = leaks(before, await to_thread.run_sync(view.look))
        if not left or time.monotonic() >= deadline:
            return left
        await anyio.sleep(0.05)


def _groups(path: str) -> Iterator[str]:
    """All cgroups below one. A directory there has as many links as it has children, plus two;
    most have none, and need not be listed."""
    try:
        if path != str(_CGROUPS) and os.stat(path).st_nlink == 2:
            return
        names = [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return  # it has gone meanwhile
    for name in names:
        yield f"{path}/{name}"
        yield from _groups(f"{path}/{name}")


def _entries(path: Path) -> list[Path]:
    """What is in a directory; nothing of what is none, or has gone meanwhile."""
    try:
        return [] if path.is_symlink() else list(path.iterdir())
    except OSError:
        return []


def _is_empty_directory(path: Path) -> bool:
    try:
        return path.is_dir() and next(path.iterdir(), None) is None
    except OSError:
        return False


def _descriptors(pid: int) -> Iterator[str]:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # the one that listed them


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
