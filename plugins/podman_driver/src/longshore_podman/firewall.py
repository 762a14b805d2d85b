"""What may pass between the worker's own bridge and the rest.

What is closed is closed in the table `mangle`, which is asked before `filter`: no rule of Docker's,
or of whoever else puts theirs on top, comes first. What is open is opened at the end of `filter`,
behind all that others have closed there, for hosts that forward nothing unless they are told to.

Open is the way out: what the host's default routes leave by, wherever these lead next.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import anyio
from longshore_core import BackendError

from longshore_podman.commands import run
from longshore_podman.namespaces import Plan

_LINK_LOCAL: Final = "169.254.0.0/16"
"""Where clouds tell a machine its secrets."""
_REPLIES: Final = "-m conntrack --ctstate RELATED,ESTABLISHED"
_NOTE: Final = "-m comment --comment longshore"
_ANYWHERE: Final = frozenset({"default", "0.0.0.0/1", "128.0.0.0/1"})
"""Two halves are how tunnels lay a default route over another."""
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_SETTINGS: Final = Path("/proc/sys/net/ipv6/conf")
_IPV4_ROUTES: Final = 0x40
"""`RTMGRP_IPV4_ROUTE` of linux/rtnetlink.h."""
_BURST_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 1.0
_RULES_SECONDS: Final = 30.0
"""How long rules may be away that somebody has flushed."""
_MESSAGES: Final = 1 << 16


def chains(plan: Plan, uplinks: frozenset[str], *, host_access: bool) -> list[str]:
    """Our chains as they should be, for `iptables-restore`: each table changes at once.

    Names are asked for everywhere, also of servers on the host or at a link-local address.
    """
    bridge, host, out = plan.bridge, f"{plan.bridge}-host", f"{plan.bridge}-out"
    closed = [
        f"-A {host} {_REPLIES} -j RETURN",
        f"-A {host} -p udp --dport 53 -j RETURN",
        f"-A {host} -p tcp --dport 53 -j RETURN",
        f"-A {host} -j DROP",
    ]
    return [
        "*mangle",
        f":{host} - [0:0]",
        f":{out} - [0:0]",
        *([] if host_access else closed),
        f"-A {out} {_REPLIES} -j RETURN",
        f"-A {out} -d {_LINK_LOCAL} -j {host}",
        *(f"-A {out} -i {bridge} -o {each} -j RETURN" for each in sorted(uplinks)),
        f"-A {out} -j DROP",
        "COMMIT",
        "*filter",
        f":{out} - [0:0]",
        *(f"-A {out} -i {bridge} -o {each} -j ACCEPT" for each in sorted(uplinks)),
        f"-A {out} -o {bridge} {_REPLIES} -j ACCEPT",
        "COMMIT",
    ]


def joints(plan: Plan) -> list[tuple[str, str, str, str]]:
    """What leads to our chains, and out of our addresses: table, first or last, chain, rule."""
    bridge, host, out = plan.bridge, f"{plan.bridge}-host", f"{plan.bridge}-out"
    return [
        ("mangle", "-I", "INPUT", f"-i {bridge} {_NOTE} -j {host}"),
        ("mangle", "-I", "FORWARD", f"-i {bridge} {_NOTE} -j {out}"),
        ("mangle", "-I", "FORWARD", f"-o {bridge} {_NOTE} -j {out}"),
        ("filter", "-A", "FORWARD", f"{_NOTE} -j {out}"),
        ("nat", "-I", "POSTROUTING", f"-s {plan.subnet} ! -o {bridge} {_NOTE} -j MASQUERADE"),
    ]


def uplinks_of(routes: str) -> frozenset[str]:
    """The interfaces of default routes, among all routes as `ip -json` tells them."""
    told: list[dict[str, Any]] = [
        route for route in json.loads(routes or "[]") if route.get("dst") in _ANYWHERE
    ]
    hops = [hop for route in told for hop in (route, *route.get("nexthops", ()))]
    return frozenset(hop["dev"] for hop in hops if "dev" in hop)


class Firewall:
    """The rules of one bridge, kept in force. Raises BackendError."""

    def __init__(
        self, plan: Plan, routes: socket.socket, logger: logging.Logger, *, host_access: bool
    ) -> None:
        self._plan = plan
        self._routes = routes
        self._logger = logger
        self._host_access = host_access

    async def close(self) -> None:
        """Put the rules in force, whatever has become of them. The bridge is there."""
        own = _SETTINGS / self._plan.bridge / "disable_ipv6"
        if own.exists():
            _set(own, "1")
        listed = await run(["ip", "-4", "-json", "route", "show", "table", "all"])
        lines = chains(self._plan, uplinks_of(listed.said), host_access=self._host_access)
        await run(["iptables-restore", "-w", "--noflush"], lines)
        for table, end, chain, rule in joints(self._plan):
            command = ["iptables", "-w", "-t", table]
            if (await run([*command, "-C", chain, *rule.split()], check=False)).code:
                await run([*command, end, chain, *rule.split()])
        await self._forward()

    async def follow(self) -> None:
        """Let the rules follow the host's default routes, and lay them again though somebody may
        have flushed all that there are, which nobody tells. Never ends by itself."""
        patience = _RULES_SECONDS
        while True:
            with anyio.move_on_after(patience):
                await anyio.wait_readable(self._routes)
            # Routes come and go in bursts, and only what remains of them matters.
            await anyio.sleep(_BURST_SECONDS)
            _drain(self._routes)
            try:
                await self.close()
                patience = _RULES_SECONDS
            except BackendError as exc:
                self._logger.warning("podman_rules_not_laid", extra={"why": str(exc)})
                patience = _RETRY_SECONDS

    async def _forward(self) -> None:
        """A host that was no router is one from now on, for nobody but sandboxes."""
        if _FORWARDING.read_text().strip() != "0":
            return
        await run(["iptables", "-w", "-P", "FORWARD", "DROP"])
        _set(_FORWARDING, "1")
        self._logger.warning(
            "podman_forwarding_begun",
            extra={"why": f"{_FORWARDING} was 0; FORWARD drops what no rule accepts"},
        )


@contextmanager
def open_firewall(plan: Plan, logger: logging.Logger, *, host_access: bool) -> Generator[Firewall]:
    """Hears of routes from now on, so that no change falls between looking and following."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as routes:
        routes.setblocking(False)
        routes.bind((0, _IPV4_ROUTES))
        yield Firewall(plan, routes, logger, host_access=host_access)


def _set(file: Path, value: str) -> None:
    if file.read_text().strip() != value:
        try:
            file.write_text(value)
        except OSError as exc:
            raise BackendError(f"cannot write {value} to {file}: {exc.strerror}") from exc


def _drain(routes: socket.socket) -> None:
    """Nothing of it is read: it says only that it is time to look."""
    # Until there is no more; or there was more than the kernel keeps, and then it tells again.
    with suppress(OSError):
        while True:
            routes.recv(_MESSAGES)
