"""`longshore doctor`: what this host can do, and what to install for the rest.

Nothing here changes the host. A probe asks and answers; what is absent comes with a hint, and only
what Longshore cannot do without at all makes the command fail.
"""

from __future__ import annotations

import errno
import getpass
import os
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import click
import psutil

from longshore_core._commands.tables import output_option, show

LEAST_PYTHON: Final = (3, 11)
LEAST_MEMORY: Final = 256 << 20
LEAST_DISK: Final = 1 << 30
LEAST_FILES: Final = 4096
PING_SECONDS: Final = 2.0
PORTS: Final = {8095: "the proxy", 8100: "monitoring", 8900: "the HTTP API", 8901: "gRPC"}
CONTROLLERS: Final = ("cpu", "memory", "pids")
CGROUPS: Final = Path("/sys/fs/cgroup")


class State(StrEnum):
    OK = "ok"
    ABSENT = "absent"
    FAILED = "failed"
    """Longshore cannot run without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one probe found, and what to do when that is not enough."""

    subject: str
    state: State
    found: str
    hint: str = ""


@click.command()
@output_option
@click.pass_context
def doctor(ctx: click.Context, output: str) -> None:
    """Say what this host can do, and what to install for the rest.

    Exits with 1 only when something is missing that Longshore cannot run without.
    """
    findings = [finding for probe in PROBES for finding in probe()]
    show(
        [
            {"subject": item.subject, "state": item.state, "found": item.found, "hint": item.hint}
            for item in findings
        ],
        output,
    )
    ctx.exit(int(any(item.state is State.FAILED for item in findings)))


def _host() -> Iterator[Finding]:
    version = platform.python_version()
    enough = sys.version_info[:2] >= LEAST_PYTHON
    yield Finding(
        subject="python",
        state=State.OK if enough else State.FAILED,
        found=f"{version} ({sys.executable})",
        hint="" if enough else "Longshore needs Python 3.11 or later",
    )
    linux = sys.platform == "linux"
    yield Finding(
        subject="kernel",
        state=State.OK if linux else State.FAILED,
        found=f"{platform.system()} {platform.release()} {platform.machine()}",
        hint="" if linux else "the worker runs on Linux; the SDK runs anywhere",
    )
    root = os.geteuid() == 0
    yield Finding(
        subject="user",
        state=State.OK if root else State.ABSENT,
        found=_user(),
        hint="" if root else "without root, limits and network policy cannot be put in force",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def _room() -> Iterator[Finding]:
    memory = psutil.virtual_memory().available
    yield _enough("memory", memory, LEAST_MEMORY, "free memory; a sandbox needs some of its own")
    disk = shutil.disk_usage(Path.cwd()).free
    yield _enough("disk", disk, LEAST_DISK, "free space here; state and logs live on it")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding(
        subject="open files",
        state=State.OK if soft >= LEAST_FILES else State.ABSENT,
        found=f"{soft} (at most {hard})",
        hint="" if soft >= LEAST_FILES else f"ulimit -n {LEAST_FILES} or more, for many sandboxes",
    )


def _enough(subject: str, free: int, least: int, hint: str) -> Finding:
    enough = free >= least
    return Finding(
        subject=subject,
        state=State.OK if enough else State.ABSENT,
        found=f"{free / (1 << 30):.1f} GiB free",
        hint="" if enough else f"at least {least >> 20} MiB of {hint}",
    )


def _cgroups() -> Iterator[Finding]:
    unified = [path for path in (CGROUPS, CGROUPS / "unified") if _is_v2(path)]
    v2 = _controllers(unified[0]) if unified else set[str]()
    writable = bool(unified) and os.access(unified[0], os.W_OK)
    yield _limits("cgroup v2", v2 if writable else set(), "mounted" if unified else "not mounted")
    v1 = {name for name in CONTROLLERS if os.access(CGROUPS / name / "tasks", os.W_OK)}
    if v1 or not v2:
        yield _limits("cgroup v1", v1, "mounted" if v1 else "not mounted, or not writable")


def _is_v2(path: Path) -> bool:
    return (path / "cgroup.controllers").exists()


def _controllers(path: Path) -> set[str]:
    return set((path / "cgroup.controllers").read_text().split()) & set(CONTROLLERS)


def _limits(subject: str, usable: set[str], otherwise: str) -> Finding:
    names = ", ".join(name for name in CONTROLLERS if name in usable)
    missing = ", ".join(name for name in CONTROLLERS if name not in usable)
    return Finding(
        subject=subject,
        state=State.OK if not missing else State.ABSENT,
        found=f"can limit {names}" if names else f"{otherwise}, without controllers for us",
        hint=f"not under our control: {missing}" if missing else "",
    )


def _engines() -> Iterator[Finding]:
    docker = os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or "/var/run/docker.sock"
    yield _engine("docker", Path(docker), "apt-get install docker.io, then start dockerd")
    home = os.environ.get("XDG_RUNTIME_DIR", "/run")
    podman = Path("/run/podman/podman.sock")
    rootless = Path(home, "podman/podman.sock")
    path = rootless if rootless.exists() else podman
    yield _engine(
        "podman", path, f"apt-get install podman; podman system service -t 0 unix://{path}"
    )


def _engine(name: str, path: Path, hint: str) -> Finding:
    if not path.is_socket():
        return Finding(subject=name, state=State.ABSENT, found=f"no socket at {path}", hint=hint)
    problem = _ping(path)
    return Finding(
        subject=name,
        state=State.ABSENT if problem else State.OK,
        found=f"{path}: {problem}" if problem else f"answers at {path}",
        hint=hint if problem else "",
    )


def _ping(path: Path) -> str:
    """Why the engine behind a socket does not answer; empty when it does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(PING_SECONDS)
            sock.connect(str(path))
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            answer = sock.recv(64).partition(b"\r\n")[0].decode(errors="replace")
    except OSError as exc:
        return exc.strerror or "no answer"
    return "" if " 200 " in answer else f"answers {answer!r}"


def _tools() -> Iterator[Finding]:
    yield _tool("iptables", "network policy by iptables", "iptables")
    yield _tool("nft", "network policy by nftables", "nftables")
    yield _tool("docker-registry", "a registry of your own for snapshots", "docker-registry")


def _tool(program: str, purpose: str, package: str) -> Finding:
    path = shutil.which(program)
    return Finding(
        subject=program,
        state=State.OK if path else State.ABSENT,
        found=path or "not on PATH",
        hint="" if path else f"for {purpose}: apt-get install {package}",
    )


def _ports() -> Iterator[Finding]:
    for port, use in PORTS.items():
        problem = _cannot_bind(port)
        yield Finding(
            subject=f"port {port}",
            state=State.ABSENT if problem else State.OK,
            found="in use" if problem else "free",
            hint=f"for {use}; Longshore may be running already" if problem else "",
        )


def _cannot_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen()
        except OSError as exc:
            return exc.errno in (errno.EADDRINUSE, errno.EACCES)
    return False


PROBES: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (
    _host,
    _room,
    _cgroups,
    _engines,
    _tools,
    _ports,
)
