"""What every network enforcer keeps. The matrix of destinations needs a network of its own."""

from __future__ import annotations

from typing import Final

from longshore_core._errors import NetworkPolicyError
from longshore_core._model import Attachment, ContainerId, NetworkPolicy
from longshore_core.abc import NetworkEnforcer
from longshore_core.testing.bench import SeamBench
from longshore_core.testing.expect import Broken, expect
from longshore_core.testing.law import Group, Law, laws_in

NetworkBench = SeamBench[NetworkEnforcer]
NETWORK: Final[Group[NetworkBench]] = Group("network")


@NETWORK.law("NE1")
async def a_policy_is_put_in_force_or_refused_by_type(bench: NetworkBench) -> None:
    for policy in (
        NetworkPolicy(),
        NetworkPolicy(allow_internet_access=False),
        NetworkPolicy(allow_out=("10.0.0.0/8",), deny_out=("0.0.0.0/0",)),
        NetworkPolicy(deny_out=("169.254.169.254", "::/0")),
    ):
        await _admitted(bench, policy)
        await bench.thing.revoke(_id(bench))


@NETWORK.law("NE2")
async def what_is_no_address_is_refused(bench: NetworkBench) -> None:
    for entry in ("not-an-address", "10.0.0.0/99", "", "10.0.0.1; drop"):
        admitted = await _admitted(bench, NetworkPolicy(deny_out=(entry,)))
        expect(not admitted, f"a policy that denies {entry!r} was admitted")


@NETWORK.law("NE3")
async def admitting_again_changes_nothing(bench: NetworkBench) -> None:
    policy = NetworkPolicy(allow_internet_access=False)
    answers = {await _admitted(bench, policy) for _ in range(3)}
    expect(len(answers) == 1, "the same policy was admitted once and refused once")
    await bench.thing.revoke(_id(bench))


@NETWORK.law("NE4")
async def revoking_works_any_number_of_times_and_of_what_never_was(bench: NetworkBench) -> None:
    for _ in range(3):
        await bench.thing.revoke(_id(bench))
    await _admitted(bench, NetworkPolicy())
    for _ in range(3):
        await bench.thing.revoke(_id(bench))


def _id(bench: NetworkBench) -> ContainerId:
    return ContainerId(f"{bench.mark}-c")


async def _admitted(bench: NetworkBench, policy: NetworkPolicy) -> bool:
    try:
        await bench.thing.admit(_id(bench), Attachment(), policy)
    except NetworkPolicyError as exc:
        if not str(exc):
            raise Broken("a policy was refused without a reason") from exc
        return False
    return True


LAWS: Final[tuple[Law[NetworkBench], ...]] = laws_in(globals())
