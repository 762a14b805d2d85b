"""What there is on this host that a driver makes, and has to take away again.

Each thing has a key that no other of its kind has while this host runs, so that two looks can be
compared: what is new in the second was made in between. Blocking, though never for long.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CGROUPS: Final = "/sys/fs/cgroup"
_INTERFACES: Final = Path("/sys/class/net")
_NAMESPACES: Final = (Path("/run/netns"), Path("/run/docker/netns"))
_RULES: Final = (("iptables-save",), ("ip6tables-save",), ("nft", "list", "ruleset"))
_RULES_SECONDS: Final = 10
_COUNTERS: Final = re.compile(r"\[\d+:\d+\]|packets \d+ bytes \d+")
_LISTENING: Final = "0A"
_DEPTH: Final = 16
"""What lies deeper in a directory is not looked at: it does not stay without what is above it."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One of its kind."""

    key: str
    shown: str
    """What it is called in a message."""
    text: str = ""
    """What may say whose it is, beside `shown`."""


@dataclass(frozen=True, slots=True)
class Mount(Thing):
    identity: str = ""
    """What is mounted, unless it is a whole file system: see `_identity`."""


@dataclass(frozen=True, slots=True)
class Process(Thing):
    pid: int = 0
    parent: int = 0
    namespace: str = ""
    """Its network namespace: `net:[<inode>]`."""


def processes() -> Iterator[Process]:
    """All that can be looked into."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
            line = _read(f"/proc/{name}/cmdline")
            environment = _read(f"/proc/{name}/environ")
        except OSError:
            continue  # it has ended, or is another user's
        try:
            namespace = os.readlink(f"/proc/{name}/ns/net")
        except OSError:
            namespace = ""  # a zombie has none
        arguments = line.replace(b"\0", b" ").decode(errors="replace").strip()[:80]
        zombie = " (zombie)" if fields[0] == b"Z" else ""
        yield Process(
            key=f"{name} since {int(fields[19])}",
            shown=f"{name}{zombie} {arguments or '(no arguments)'}",
            text=(environment + line).decode(errors="replace"),
            pid=int(name),
            parent=int(fields[1]),
            namespace=namespace,
        )


def cgroups_of(pid: int) -> frozenset[str]:
    """The paths of the groups that a process is in, below the roots of their hierarchies."""
    try:
        lines = _read(f"/proc/{pid}/cgroup").decode(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.split(":", 2)[2] for line in lines) - {"/"}


def root_of(pid: int) -> str:
    """What is mounted as the root of a process's files: a `Mount.identity`."""
    try:
        lines = _read(f"/proc/{pid}/mountinfo").decode(errors="replace").splitlines()
    except OSError:
        return ""
    roots = (line for line in lines if line.split(" ")[4] == "/")
    return _identity(next(roots, ""))


def cgroups() -> Iterator[Thing]:
    yield from (Thing(path, path) for path in _groups(_CGROUPS))


def mounts() -> Iterator[Mount]:
    """Those that this process sees; `text` is the whole line of mountinfo."""
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        where, kind = line.split(" ")[4], line.partition(" - ")[2].split(" ")[0]
        shown = f"{where} ({kind})"
        yield Mount(shown, shown, line, _identity(line))


def namespaces() -> Iterator[Thing]:
    """Network namespaces with a name; `text` is `net:[<inode>]`."""
    for directory in _NAMESPACES:
        for path in _entries(directory):
            try:
                yield Thing(str(path), str(path), f"net:[{path.stat().st_ino}]")
            except OSError:
                continue  # it has gone meanwhile


def interfaces() -> Iterator[Thing]:
    for path in _entries(_INTERFACES):
        try:
            index = (path / "ifindex").read_text().strip()
        except OSError:
            continue  # it has gone meanwhile, or is none (`bonding_masters`)
        yield Thing(f"{path.name} {index}", path.name)


def rules() -> Iterator[Thing]:
    """Chains and rules of the packet filter, as far as there are programs that tell them."""
    for command in _RULES:
        if not shutil.which(command[0]):
            continue
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_RULES_SECONDS
        )
        for line in (_COUNTERS.sub("", line).strip() for line in done.stdout.splitlines()):
            if line and not line.startswith("#"):
                yield Thing(f"{command[0]}: {line}", f"{command[0]}: {line}")


def ports() -> Iterator[Thing]:
    """TCP sockets that listen; `text` is `socket:[<inode>]`."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in (line.split() for line in lines):
            if fields[3] == _LISTENING:
                shown = f"{table} {int(fields[1].rpartition(':')[2], 16)}"
                yield Thing(shown, shown, f"socket:[{fields[9]}]")


def files(root: Path, aside: set[Path]) -> Iterator[Thing]:
    """Those in the directories in `root`, other than `aside`; not these directories themselves."""
    level = [path for path in _entries(root) if path not in aside]
    for depth in range(2, _DEPTH):
        level = [entry for path in level for entry in _entries(path)]
        for path in level:
            # A folder that waits for the next container is none that the last one has left.
            if depth > 2 or not _is_empty_directory(path):
                name = str(path.relative_to(root))
                yield Thing(name, name)


def temporary_files() -> Iterator[Thing]:
    """At the top of the usual places only: what is below is somebody's."""
    for place in {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm", "/run"}:
        if os.path.isdir(place):
            for name in os.listdir(place):
                yield Thing(f"{place}/{name}", f"{place}/{name}")


def descriptors(pid: int) -> Iterator[Thing]:
    """A process's own, by what they are; how many of a kind is part of the key."""
    kinds = dict[str, int]()
    for target in targets(pid):
        if not target.startswith("/proc/"):
            kind = target if target.startswith("/") else target.partition(":[")[0]
            kinds[kind] = kinds.get(kind, 0) + 1
    for kind, count in kinds.items():
        for number in range(1, count + 1):
            yield Thing(f"{kind} #{number}", f"{kind} #{number}")


def targets(pid: int) -> Iterator[str]:
    """What a process has open."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # the one that listed them


def _identity(line: str) -> str:
    """What is mounted, by a line of mountinfo: an overlay's own directory, a part of another file
    system, or a namespace. Device numbers are no names: they are soon another's."""
    upper = re.search(r"(?:^|,)upperdir=([^,\s]+)", line.rpartition(" ")[2])
    root = line.split(" ")[3] if line else ""
    return upper[1] if upper else root if root != "/" else ""


def _groups(path: str) -> Iterator[str]:
    """All cgroups below one. A directory there has as many links as it has children, plus two;
    most have none, and need not be listed."""
    try:
        if path != _CGROUPS and os.stat(path).st_nlink == 2:
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


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
