"""What may not pass from the worker's own bridge: to this host, and to link-local addresses.

It is closed in the table `mangle`, which is asked before `filter`: no rule of the engine's, or of
whoever else puts theirs on top, comes first. Rules name the bridge, and may be there before it is.
The engine goes on to open what is open.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import anyio
from longshore_core import NetworkPolicyError

from longshore_docker.config import Config

_NET_ADMIN: Final = 12
"""The capability's number, of capability.h."""
_COMMAND_SECONDS: Final = 10.0
_IPV6: Final = Path("/proc/net/if_inet6")


class _Family(NamedTuple):
    program: str
    metadata: str
    """Where clouds tell a machine its secrets."""
    exempt: tuple[str, ...]
    """What finds a neighbour's address is neither a connection nor a reply."""


_FAMILIES: Final = (
    _Family("iptables", "169.254.0.0/16", ()),
    _Family(
        "ip6tables",
        "fd00:ec2::254/128",
        (
            "-p ipv6-icmp --icmpv6-type neighbour-solicitation",
            "-p ipv6-icmp --icmpv6-type neighbour-advertisement",
        ),
    ),
)


def obstacle(config: Config) -> str | None:
    """Why this process cannot keep the rules of the engine's host; `None`: it can."""
    if not config.is_local:
        return f"the engine at {config.engine} is taken for another host's"
    if os.geteuid() != 0 or not _may_administer():
        return "only root may set rules (with the capability NET_ADMIN)"
    missing = [family.program for family in _families() if not shutil.which(family.program)]
    return f"{' and '.join(missing)} must be installed" if missing else None


class Firewall:
    """The rules of one bridge. Raises NetworkPolicyError where they cannot be set."""

    def __init__(self, bridge: str, config: Config, logger: logging.Logger) -> None:
        self._bridge = bridge
        self._chain = f"{bridge}-host"
        self._is_closed = not config.host_access
        self._obstacle = obstacle(config)
        self._logger = logger
        self._has_warned = False
        self._turn = anyio.Lock()
        """Between a look at a rule and its change, nobody else of us looks."""

    async def set(self) -> None:
        """Have the rules in force, or none where the config opens it. Idempotent."""
        if self._obstacle is not None:
            self._warn(self._obstacle)
        elif self._is_closed:
            async with self._turn:
                for family in _families():
                    await self._close(family)
        else:
            await self.remove()

    async def remove(self) -> None:
        """Idempotent."""
        if self._obstacle is not None:
            return
        async with self._turn:
            await self._open()

    async def _open(self) -> None:
        for family in _families():
            for joint in self._joints(family):
                while await _succeeds(family, "-D", *joint):
                    pass
            for verb in ("-F", "-X"):
                await _succeeds(family, verb, self._chain)

    async def retire(self) -> None:
        """Remove the rules of a bridge that is gone. Idempotent."""
        if not self._has_bridge():
            await self.remove()

    def look_for_bridge(self) -> None:
        """The engine has made the bridge: say so when it is not this host's, whose rules these
        are."""
        if self._obstacle is None and not self._has_bridge():
            self._warn("the engine's networks are not those of the worker's own namespace")

    def _has_bridge(self) -> bool:
        return Path("/sys/class/net", self._bridge).exists()

    def _warn(self, why: str) -> None:
        if self._is_closed and not self._has_warned:
            self._has_warned = True
            message = "sandboxes reach this host and its cloud's metadata: "
            self._logger.warning("docker_network_not_closed", extra={"why": message + why})

    async def _close(self, family: _Family) -> None:
        chain = self._chain
        passing = (
            "-m conntrack --ctstate RELATED,ESTABLISHED",
            "-p udp --dport 53",
            "-p tcp --dport 53",
            *family.exempt,
        )
        # Names are asked for everywhere, also of servers on the host or at a link-local address.
        rules = [f"-A {chain} {each} -j RETURN" for each in passing]
        lines = ["*mangle", f":{chain} - [0:0]", *rules, f"-A {chain} -j DROP", "COMMIT", ""]
        # All of it at once, also over what is there.
        restore = (f"{family.program}-restore", "-w", "--noflush")
        await _run(*restore, lines="\n".join(lines))
        for joint in self._joints(family):
            if not await _succeeds(family, "-C", *joint):
                await _run(family.program, "-w", "-t", "mangle", "-I", *joint)

    def _joints(self, family: _Family) -> tuple[tuple[str, ...], ...]:
        """What leads to our chain."""
        to_chain = ("-i", self._bridge, "-j", self._chain)
        return ("INPUT", *to_chain), ("FORWARD", "-d", family.metadata, *to_chain)


def _families() -> tuple[_Family, ...]:
    return _FAMILIES if _IPV6.exists() else _FAMILIES[:1]


def _may_administer() -> bool:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _NET_ADMIN & 1)
    return True


async def _succeeds(family: _Family, *words: str) -> bool:
    return (await _done(family.program, "-w", "-t", "mangle", *words)).returncode == 0


async def _run(*command: str, lines: str = "") -> None:
    done = await _done(*command, lines=lines)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        raise NetworkPolicyError(
            f"cannot close the network of sandboxes: {command[0]}: {reason}; where that is as it "
            "should be, set driver.host_access to true",
            retryable=True,
        )


async def _done(*command: str, lines: str = "") -> subprocess.CompletedProcess[bytes]:
    """Not left half done by who is cancelled: it takes milliseconds."""
    try:
        # A file, not a pipe: a program that fails at the first line does not read the others.
        with anyio.fail_after(_COMMAND_SECONDS, shield=True), tempfile.TemporaryFile() as given:
            given.write(lines.encode())
            given.seek(0)
            return await anyio.run_process(command, stdin=given, check=False)
    except TimeoutError as exc:
        raise NetworkPolicyError(f"{command[0]} takes too long", retryable=True) from exc
    except OSError as exc:
        raise NetworkPolicyError(f"cannot run {command[0]}: {exc}", retryable=True) from exc
