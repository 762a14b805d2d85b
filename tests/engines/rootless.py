"""A Podman service without root, for tests, and the user whose it is: both made, and both gone."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.engines.podman import PrivatePodman

PROGRAMS: Final = ("useradd", "userdel", "usermod", "setpriv", "newuidmap", "slirp4netns")
_SUBORDINATE: Final = 1 << 29
"""The first of the numbers that the user gives to users of containers: high up, where nobody is."""
_STORAGE: Final = """\
[storage]
driver = "overlay"
"""


class RootlessPodman(PrivatePodman):
    """A Podman of another user's, by whom programs can be run as well."""

    def __init__(self, directory: Path, user: str) -> None:
        super().__init__(directory)
        entry = pwd.getpwnam(user)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid

    def as_user(self, *argv: str) -> list[str]:
        """A command of that user's. It may read what root keeps an interpreter in."""
        reading = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
        return [*self._become(), *reading, *argv]

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        (self.directory / "storage.conf").write_text(_STORAGE)
        settings = {
            name: value
            for name, value in super()._environment().items()
            if name.startswith(("CONTAINERS_", "REGISTRY_"))
        }
        return {
            **kept,
            **settings,
            "CONTAINERS_STORAGE_CONF": f"{self.directory}/storage.conf",
            "HOME": f"{self.directory}/home",
            "XDG_RUNTIME_DIR": f"{self.directory}/runtime",
        }

    def remove(self) -> None:
        """End all that this user runs, and leave nothing."""
        self.stop()
        for words in (["rm", "--all", "--force", "--time", "0"], ["system", "migrate"]):
            command = [*self._command(), *words]
            subprocess.run(command, env=self._environment(), capture_output=True, check=False)
        while pids := _processes(self.uid):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        shutil.rmtree(self.directory)

    def _command(self) -> list[str]:
        return [*self._become(), *super()._command()]

    def _become(self) -> list[str]:
        who = ("--reuid", str(self.uid), "--regid", str(self.gid))
        return ["setpriv", *who, "--clear-groups"]

    def _environment(self) -> dict[str, str]:
        return self.environment()


@contextmanager
def open_rootless() -> Iterator[RootlessPodman]:
    """A user, and a service of theirs. Needs root, and PROGRAMS."""
    user = f"lsr{uuid4().hex[:8]}"
    directory = Path(tempfile.mkdtemp(prefix="lsr-"))
    _call(["useradd", "--no-create-home", "--home-dir", f"{directory}/home", user])
    try:
        numbers = f"{_SUBORDINATE}-{_SUBORDINATE + (1 << 16) - 1}"
        _call(["usermod", "--add-subuids", numbers, "--add-subgids", numbers, user])
        own = RootlessPodman(directory, user)
        for place in (directory, directory / "home", directory / "runtime"):
            place.mkdir(mode=0o700, exist_ok=True)
            os.chown(place, own.uid, own.gid)
        try:
            own.start()
            yield own
        finally:
            own.remove()
    finally:
        _call(["userdel", user])


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


def _processes(uid: int) -> list[int]:
    pids = list[int]()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError):
            if Path("/proc", name).stat().st_uid == uid:
                pids.append(int(name))
    return pids
