"""`fork_exec`, leaving things on the host whose names say nothing of who has made them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import anyio
from longshore_core import Attachment, ContainerSpec, Handle, Host
from longshore_core.abc import Driver

from tests.conformance.mutants.planting import Wrapped, over_fork_exec

_CGROUPS = Path("/sys/fs/cgroup")


@over_fork_exec("L5", "left .*network namespace", needs=("ip",))
class LeavesNamespaces(Wrapped):
    made: ClassVar[list[str]] = []

    async def create(self, spec: ContainerSpec) -> Handle:
        name = os.urandom(6).hex()
        self.made.append(name)
        subprocess.run(["ip", "netns", "add", name], check=True)
        argv = ("ip", "netns", "exec", name, *spec.argv)
        return await super().create(replace(spec, argv=argv))

    @classmethod
    def clean(cls) -> None:
        while cls.made:
            subprocess.run(["ip", "netns", "del", cls.made.pop()], check=True)


@over_fork_exec("L5", "left .*cgroup", needs=("sh",))
class LeavesGroups(Wrapped):
    made: ClassVar[list[Path]] = []

    async def create(self, spec: ContainerSpec) -> Handle:
        # The first hierarchy of several, or the only one.
        hierarchies = sorted(path.parent for path in _CGROUPS.glob("*/cgroup.procs"))
        top = _CGROUPS if (_CGROUPS / "cgroup.procs").exists() else hierarchies[0]
        group = top / os.urandom(6).hex()
        group.mkdir()
        self.made.append(group)
        script = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
        return await super().create(
            replace(spec, argv=("sh", "-c", script, str(group), *spec.argv))
        )

    async def start(self, handle: Handle) -> Attachment:
        attachment = await super().start(handle)
        # As of an engine, whose containers are in their group before they run.
        while not (self.made[-1] / "cgroup.procs").read_text():
            await anyio.sleep(0.001)
        return attachment

    @classmethod
    def clean(cls) -> None:
        while cls.made:
            cls.made.pop().rmdir()


@over_fork_exec("L5", "left .*process", needs=("unshare", "nsenter"))
class LeavesTheKeeperOfANamespace(Wrapped):
    """As a process that was to hold it for the container."""

    kept: ClassVar[list[int]] = []

    async def create(self, spec: ContainerSpec) -> Handle:
        script = "setsid -f unshare --net sh -c 'echo $$; exec sleep 1000 >&-'"
        keeper = int(subprocess.check_output(["sh", "-c", script], env={"PATH": os.defpath}))
        self.kept.append(keeper)
        argv = ("nsenter", "--net", "--target", str(keeper), *spec.argv)
        return await super().create(replace(spec, argv=argv))

    @classmethod
    def clean(cls) -> None:
        while cls.kept:
            os.kill(cls.kept.pop(), 9)


@over_fork_exec("L4", "left .*rule", needs=("iptables",))
class LeavesTheChainOfItsOwner(Wrapped):
    made: ClassVar[list[str]] = []

    async def create(self, spec: ContainerSpec) -> Handle:
        chain = f"x{hashlib.sha256(self.host.owner.encode()).hexdigest()[:8]}"
        if chain not in self.made:
            self.made.append(chain)
            subprocess.run(["iptables", "--wait", "-t", "mangle", "-N", chain], check=True)
        return await super().create(spec)

    @classmethod
    def clean(cls) -> None:
        while cls.made:
            command = ["iptables", "--wait", "-t", "mangle", "-X", cls.made.pop()]
            subprocess.run(command, check=True)


@over_fork_exec("L4", "left .*process")
class LeavesItsHelper(Wrapped):
    """Which it has started when it was opened."""

    made: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, inner: Driver, host: Host) -> None:
        super().__init__(inner, host)
        self.made.append(subprocess.Popen(["sleep", "1000"], env={}))

    @classmethod
    def clean(cls) -> None:
        while cls.made:
            with cls.made.pop() as helper:
                helper.kill()
