"""A Docker engine for tests: one that answers already, or a private one.

The private one has all that it keeps in one directory, a bridge and addresses of its own, and
leaves containers running while it is away (`live-restore`), as it should be in production.

    python -m tests.engines.dockerd start|stop|remove DIRECTORY
"""

from __future__ import annotations

import contextlib
import hashlib
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
from tests.engines.processes import command_line, has_ended, mounts, spawn, wait_gone

_START_SECONDS: Final = 90.0
_TRIES: Final = 3
"""Of starts: dockerd gives its containerd 15 s, which may be too few where the disk is slow."""
_SYSTEM: Final = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Docker:
    """An engine, and the commands of its client."""

    address: str
    directory: Path | None = None
    """Of a private one, which can be stopped and started."""

    def run(self, *argv: str, stdin: bytes | None = None, check: bool = True) -> str:
        """`docker ARGV…`: what it prints."""
        command = ["docker", "--host", self.address, *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def load(self, image: Image) -> str:
        """Have an image on the engine; the answer is its reference."""
        self.run("load", "--quiet", stdin=archive(image))
        return image.reference

    def answers(self) -> bool:
        """Whether it is up. Asks the socket: the client would need a fifth of a second."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1)
            sock.connect(self.address.removeprefix("unix://"))
            sock.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 OK" in sock.recv(4096)
        return False


class PrivateDocker:
    """A dockerd of one's own."""

    def __init__(self, directory: Path, *, storage: str | None = None) -> None:
        self.directory = directory
        self._storage = ("--storage-driver", storage) if storage else ()
        self.docker = Docker(f"unix://{directory}/docker.sock", directory)
        self.log = directory / "dockerd.log"
        self.runtime = directory / "runtime"
        """Where a test may have a runtime of its own, called `own`."""
        self._pidfile = directory / "dockerd.pid"
        self._containerd_pidfile = directory / "exec/containerd/containerd.pid"
        # An interface's name has at most 15 bytes.
        self._bridge = f"lsd{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"

    @property
    def pid(self) -> int | None:
        """Of the dockerd, as long as it runs."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pidfile.read_text())
            if b"dockerd" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def start(self) -> None:
        """Return when it answers. Started already: nothing."""
        if self.pid is not None and self.docker.answers():
            return
        deadline = time.monotonic() + _START_SECONDS
        for _ in range(_TRIES):
            # Left by one that was killed; the next takes whoever has that number for it.
            self._pidfile.unlink(missing_ok=True)
            pid = self._spawn()
            while not has_ended(pid) and time.monotonic() < deadline:
                if self.docker.answers():
                    return
                time.sleep(0.05)
            if not has_ended(pid):
                break
        text = self.log.read_text(errors="replace")
        raise RuntimeError(f"dockerd does not start:\n{text[-3000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Take it away; containers run on. Return when it is gone, and its containerd with it."""
        pid, containerd = self.pid, self._containerd()
        if pid is None:
            return
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
            wait_gone(pid)
            # Else the next dockerd would wait for one that is just about to end.
            if containerd is not None:
                wait_gone(containerd)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """End all that it has ever made, and itself, and leave nothing."""
        with contextlib.suppress(RuntimeError):
            self.start()
            if there := self.docker.run("ps", "--all", "--quiet").split():
                self.docker.run("rm", "--force", "--volumes", *there)
            if nets := self.docker.run("network", "ls", "-qf", "type=custom").split():
                option = '{{index .Options "com.docker.network.bridge.name"}}'
                shown = self.docker.run("network", "inspect", "--format", option, *nets)
                self.docker.run("network", "rm", *nets)
                for bridge in shown.split():
                    self._remove_rules(bridge)
        self.stop()
        for pid in self._containerds():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)
        self._remove_rules(self._bridge)
        for mount in reversed(mounts(self.directory)):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _spawn(self) -> int:
        net = self._make_bridge()
        # One that ended with a dockerd that was killed would be taken to live, until it is reaped.
        containerd = self._containerd()
        if containerd is not None and has_ended(containerd):
            self._containerd_pidfile.unlink()
        argv = [
            *("dockerd", "--host", self.docker.address, "--pidfile", str(self._pidfile)),
            *("--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec"),
            *("--bridge", self._bridge, "--live-restore"),
            *("--default-address-pool", f"base={net}.0.0/17,size=24"),
            # Of no use, until somebody puts a program there.
            *("--add-runtime", f"own={self.runtime}"),
            *self._storage,
        ]
        return spawn(argv, os.environ, self.log)

    def _containerd(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self._containerd_pidfile.read_text())
        return None

    def _containerds(self) -> list[int]:
        """What runs for this engine beside dockerd: containerd, and a shim a container."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and f"{self.directory}/exec/containerd/" in command_line(entry)
        ]

    def _remove_rules(self, bridge: str) -> None:
        """What dockerd leaves of a bridge that it was given, and a worker of one in use."""
        for program in ("iptables", "ip6tables"):
            for table in ("filter", "nat", "mangle"):
                command = [program, "--wait", "--table", table]
                listed = subprocess.run([*command, "-S"], capture_output=True, text=True)
                for rule in listed.stdout.splitlines():
                    if rule.startswith("-A ") and bridge in rule.split():
                        words = ["-D", *rule.split()[1:]]
                        subprocess.run([*command, *words], capture_output=True, check=False)
                if f"-N {bridge}-host" in listed.stdout.splitlines():
                    for verb in ("-F", "-X"):
                        subprocess.run([*command, verb, f"{bridge}-host"], check=False)

    def _make_bridge(self) -> str:
        """The bridge, and the first two numbers of the addresses that are ours."""
        kept = self.directory / "net"
        if kept.exists():
            return kept.read_text()
        taken = _ip("-4", "route")
        net = next(f"10.{n}" for n in range(100, 250) if f"10.{n}." not in taken)
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{net}.128.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        kept.write_text(net)
        return net


@contextmanager
def open_docker(*, private: bool = False) -> Iterator[Docker]:
    """The machine's engine when it answers, or a private one, which needs root and dockerd."""
    system = Docker(os.environ.get("DOCKER_HOST", _SYSTEM))
    if not private and system.answers():
        yield system
        return
    # A short path: what a socket's address holds ends at 107 bytes.
    own = PrivateDocker(Path(tempfile.mkdtemp(prefix="lsd-")))
    try:
        own.start()
        yield own.docker
    finally:
        own.remove()


def _ip(*argv: str) -> str:
    done = subprocess.run(["ip", *argv], check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    getattr(PrivateDocker(Path(sys.argv[2])), sys.argv[1])()
