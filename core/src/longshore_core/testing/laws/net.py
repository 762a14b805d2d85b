"""What a driver says of a container's network. The matrix of policies is the enforcer's."""

from __future__ import annotations

from typing import Final

from longshore_core._model import Attachment, NetworkMode
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, expect
from longshore_core.testing.law import NETWORK, Group, Law, laws_in
from longshore_core.testing.programs import FOREVER

NET: Final[Group[Bench]] = Group("net")


@NET.law("N0", requires_not=(NETWORK,))
async def where_no_enforcer_can_take_hold_no_interface_is_named(bench: Bench) -> None:
    attachment = await _attachment(bench)
    named = (attachment.interface, attachment.netns, attachment.addresses)
    equal(named, (None, None, ()), "interface, namespace and addresses without a network")


@NET.law("N0.2", requires=(NETWORK,))
async def where_an_enforcer_takes_hold_the_attachment_says(bench: Bench) -> None:
    attachment = await _attachment(bench)
    if bench.facts.network is NetworkMode.NETNS:
        expect(attachment.netns, "the attachment names no network namespace")
    else:
        expect(attachment.interface, "the attachment names no interface")
    expect(attachment.addresses, "the attachment has no address")


async def _attachment(bench: Bench) -> Attachment:
    return await bench.driver.start(await bench.driver.create(bench.spec("c", FOREVER)))


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
