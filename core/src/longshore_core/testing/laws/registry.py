"""What every snapshot registry keeps."""

from __future__ import annotations

import re
from typing import Final

from longshore_core._errors import RegistryError
from longshore_core.abc import Registry
from longshore_core.testing.bench import SeamBench
from longshore_core.testing.expect import equal, expect
from longshore_core.testing.law import Group, Law, Missing, laws_in

RegistryBench = SeamBench[Registry]
REGISTRY: Final[Group[RegistryBench]] = Group("registry")

_REFERENCE: Final = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+[:@][A-Za-z0-9_.:-]{1,128}")


@REGISTRY.law("RG1")
async def the_same_snapshot_has_the_same_reference(bench: RegistryBench) -> None:
    references = {bench.thing.reference("s1", "n1") for _ in range(5)}
    equal(len(references), 1, "references of one snapshot")


@REGISTRY.law("RG2")
async def snapshots_have_references_of_their_own(bench: RegistryBench) -> None:
    pairs = [(s, n) for s in ("s1", "s2", "s1-snap") for n in ("n1", "n2", "x")]
    references = {bench.thing.reference(*pair) for pair in pairs}
    equal(len(references), len(pairs), f"references of {len(pairs)} snapshots")


@REGISTRY.law("RG3")
async def a_reference_is_one_that_engines_take(bench: RegistryBench) -> None:
    reference = bench.thing.reference("s1", "n1")
    expect(_REFERENCE.fullmatch(reference), f"{reference!r} is no image reference")


@REGISTRY.law("RG4")
async def it_owns_what_it_names_and_nothing_else(bench: RegistryBench) -> None:
    own = bench.thing.reference("s1", "n1")
    expect(bench.thing.owns(own), f"it does not own {own}")
    repository = own.rpartition("@" if "@" in own else ":")[0]
    for foreign in ("alpine", "docker.io/library/alpine:3", f"evil.example/{own}", "", own[1:]):
        expect(not bench.thing.owns(foreign), f"it owns {foreign!r}")
    expect(not bench.thing.owns(f"{repository}-of-another:x"), "it owns what begins alike")


@REGISTRY.law("RG5")
async def credentials_have_no_repr_and_do_not_change_at_once(bench: RegistryBench) -> None:
    try:
        first = await bench.thing.credentials()
        again = await bench.thing.credentials()
    except RegistryError as exc:
        raise Missing(f"a registry that answers: {exc}") from exc
    equal(again, first, "credentials, asked for again")
    if first is not None:
        expect(first.password not in repr(first), "the password shows in a repr")


LAWS: Final[tuple[Law[RegistryBench], ...]] = laws_in(globals())
