"""Network namespaces of the worker's own: what they are called, and what it takes to make one.

A namespace is known by its number: its name, its address and the host's side of it follow. Each is
joined to the bridge by a pair of interfaces, one of them `eth0` inside, and closed to neighbours
before anything can run in it: its port of the bridge is isolated, and no address of IPv6 is made
up on either side.

Pure: what is to be done is text for `ip -batch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path("/run/netns")
_INTERFACE: Final = "lsp"
_FIRST: Final = 2
"""The network's own address is 0, the bridge's is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How namespaces of one owner are laid out."""

    bridge: str
    subnet: IPv4Network
    mark: str
    """Tells this owner's namespaces from everybody else's."""

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet[1]

    @property
    def numbers(self) -> range:
        return range(_FIRST, self.subnet.num_addresses - 1)

    def at(self, number: int) -> Namespace:
        return Namespace(
            number=number,
            name=f"{self.bridge}-{self.mark}-{number}",
            interface=f"{_INTERFACE}{number}",
            address=str(self.subnet[number]),
        )

    def own(self, names: Sequence[str]) -> frozenset[int]:
        """The numbers of this owner's namespaces, among those of the host."""
        prefix = f"{self.bridge}-{self.mark}-"
        tails = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        return frozenset(int(tail) for tail in tails if tail.isdecimal())


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    number: int
    name: str
    interface: str
    """The host's side."""
    address: str

    @property
    def path(self) -> str:
        return str(DIRECTORY / self.name)


def free_numbers(plan: Plan, interfaces: Sequence[str], after: int) -> Iterator[int]:
    """Numbers that nobody on the host uses, whoever owns them; the one last used comes up last."""
    taken = {name for name in interfaces if name.startswith(_INTERFACE)}
    numbers = plan.numbers
    begin = max(after + 1 - numbers.start, 0) % len(numbers)
    for number in (*numbers[begin:], *numbers[:begin]):
        if plan.at(number).interface not in taken:
            yield number


def bridging(plan: Plan) -> list[str]:
    """Make the bridge, line by line; each may find its work done."""
    return [
        f"link add {plan.bridge} type bridge",
        f"link set {plan.bridge} addrgenmode none",
        f"addr add {plan.gateway}/{plan.subnet.prefixlen} dev {plan.bridge}",
        f"link set {plan.bridge} up",
    ]


def outside(plan: Plan, space: Namespace) -> list[str]:
    """Make a namespace and join it to the bridge."""
    return [
        f"netns add {space.name}",
        f"link add {space.interface} type veth peer name eth0 netns {space.name}",
        f"link set {space.interface} addrgenmode none master {plan.bridge}",
        f"link set {space.interface} type bridge_slave isolated on",
        f"link set {space.interface} up",
    ]


def inside(plan: Plan, space: Namespace) -> list[str]:
    """Give a namespace its address and its way out."""
    return [
        "link set lo up",
        "link set eth0 addrgenmode none",
        f"addr add {space.address}/{plan.subnet.prefixlen} dev eth0",
        "link set eth0 up",
        f"route add default via {plan.gateway}",
    ]


def undoing(space: Namespace) -> list[str]:
    """Take a namespace away. Not its interface by name, which may be another owner's: it goes with
    the namespace, or never came to be."""
    return [f"netns del {space.name}"]
