"""A Podman service for tests: one that answers already, or a private one.

The private one has all that it keeps in one directory. Containers run on while it is away: each
has a monitor of its own.

    python -m tests.engines.podman start|stop|remove DIRECTORY
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.engines.images import Image, archive
from tests.engines.processes import has_ended, mounts, spawn, wait_gone

_START_SECONDS: Final = 90.0
_SYSTEM: Final = "unix:///run/podman/podman.sock"
_CONFIG: Final = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]

[engine]
runtime = "{runtime}"
# Locks in shared memory would be those of the whole machine.
lock_type = "file"
"""
_REGISTRIES: Final = """\
[[registry]]
location = "127.0.0.1"
insecure = true
"""


@dataclass(frozen=True, slots=True)
class Podman:
    """A service, and the commands of its client."""

    address: str
    directory: Path | None = None
    """Of a private one, which can be stopped and started."""

    def run(self, *argv: str, stdin: bytes | None = None, check: bool = True) -> str:
        """`podman ARGV…`: what it prints."""
        command = ["podman", "--remote", "--url", self.address, *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def load(self, image: Image) -> str:
        """Have an image on the engine; the answer is its reference."""
        self.run("load", "--quiet", stdin=archive(image))
        return image.reference

    def answers(self) -> bool:
        """Whether it is up. Asks the socket: the client would need half a second."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1)
            sock.connect(self.address.removeprefix("unix://"))
            sock.sendall(b"GET /_ping HTTP/1.0\r\nHost: podman\r\n\r\n")
            return b" 200 OK" in sock.recv(4096)
        return False


class PrivatePodman:
    """A Podman of one's own."""

    def __init__(
        self, directory: Path, *, storage: str | None = None, runtime: str | Path = "runc"
    ) -> None:
        self.directory = directory
        self._runtime = runtime
        self._storage = ("--storage-driver", storage) if storage else ()
        self.podman = Podman(f"unix://{directory}/podman.sock", directory)
        self.log = directory / "podman.log"
        self._pidfile = directory / "podman.pid"

    @property
    def pid(self) -> int | None:
        """Of the service, as long as it runs."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pidfile.read_text())
            if str(self.directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def start(self) -> None:
        """Return when it answers. Started already: nothing."""
        if self.pid is not None and self.podman.answers():
            return
        pid = self._spawn()
        self._pidfile.write_text(str(pid))
        deadline = time.monotonic() + _START_SECONDS
        while not self.podman.answers():
            if has_ended(pid) or time.monotonic() > deadline:
                text = self.log.read_text(errors="replace")
                raise RuntimeError(f"podman does not start:\n{text[-3000:]}")
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Take it away; containers run on. Return when it is gone."""
        pid = self.pid
        if pid is None:
            return
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
            wait_gone(pid)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """End all that it has ever made, and itself, and leave nothing."""
        self.stop()
        command = [*self._command(), "rm", "--all", "--force", "--time", "0"]
        subprocess.run(command, env=self._environment(), capture_output=True, check=False)
        for mount in reversed(mounts(self.directory)):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        shutil.rmtree(self.directory)

    def _command(self) -> list[str]:
        own = self.directory
        return [
            *("podman", "--root", f"{own}/root", "--runroot", f"{own}/run"),
            *("--tmpdir", f"{own}/tmp", "--network-config-dir", f"{own}/networks"),
            *self._storage,
        ]

    def _environment(self) -> dict[str, str]:
        (self.directory / "containers.conf").write_text(_CONFIG.format(runtime=self._runtime))
        (self.directory / "registries.conf").write_text(_REGISTRIES)
        return {
            **os.environ,
            "CONTAINERS_CONF": f"{self.directory}/containers.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{self.directory}/registries.conf",
            "REGISTRY_AUTH_FILE": f"{self.directory}/auth.json",
        }

    def _spawn(self) -> int:
        # In its own directory: monitors leave a file where it is when memory runs out.
        chdir = ("env", f"--chdir={self.directory}")
        argv = [*chdir, *self._command(), "system", "service", "--time", "0", self.podman.address]
        return spawn(argv, self._environment(), self.log)


@contextmanager
def open_podman(*, private: bool = False) -> Iterator[Podman]:
    """The machine's service when it answers, or a private one, which needs root and podman."""
    system = Podman(os.environ.get("CONTAINER_HOST", _SYSTEM))
    if not private and system.answers():
        yield system
        return
    # A short path: what a socket's address holds ends at 107 bytes.
    own = PrivatePodman(Path(tempfile.mkdtemp(prefix="lsp-")))
    try:
        own.start()
        yield own.podman
    finally:
        own.remove()


def remove_network(bridge: str) -> None:
    """What the driver keeps of its network when it is closed: for the next worker."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    for name in (line.split()[0] for line in listed.stdout.splitlines() if bridge in line):
        subprocess.run(["ip", "netns", "delete", name], check=False)
    subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)
    own = (f"{bridge}-host", f"{bridge}-out")
    for table in ("mangle", "filter", "nat"):
        command = ["iptables", "-w", "-t", table]
        listed = subprocess.run([*command, "-S"], capture_output=True, text=True, check=True)
        rules = [line.split() for line in listed.stdout.splitlines() if bridge in line]
        leading = [rule[1:] for rule in rules if rule[0] == "-A" and rule[1] not in own]
        chains = [rule[1] for rule in rules if rule[0] == "-N"]
        for words in (
            *(("-D", *rule) for rule in leading),
            *(("-F", chain) for chain in chains),
            *(("-X", chain) for chain in chains),
        ):
            subprocess.run([*command, *words], check=True)


if __name__ == "__main__":
    getattr(PrivatePodman(Path(sys.argv[2])), sys.argv[1])()
