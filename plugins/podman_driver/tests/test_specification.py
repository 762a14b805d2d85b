"""What Podman is told about a container."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import BackendError, ContainerId, ContainerSpec, ImageError, Limit, Limits, Tree
from longshore_podman.answers import Image
from longshore_podman.config import CAPABILITIES, Config
from longshore_podman.namespaces import Plan
from longshore_podman.specification import OWNER, Surroundings, check, describe, digest, name_of

LIMITS = frozenset({Limit.CPU, Limit.MEMORY, Limit.PIDS})
PLAN = Plan(bridge="b", subnet=IPv4Network("10.0.0.0/24"), mark="m")
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def image(**rest: object) -> Image:
    return Image(id="i", platform="linux/amd64", **rest)


def around(**rest: object) -> Surroundings:
    known = {"limits": LIMITS, "rootless": False, "storage_driver": "overlay"}
    return Surroundings(**{"owner": "w/driver", "image": image(), **known, **rest})


def spec(**rest: object) -> ContainerSpec:
    return ContainerSpec(**{"id": ContainerId("c"), "image": "i", "argv": ("a",), **rest})


@given(
    argv=st.lists(WORDS.filter(bool), min_size=1).map(tuple),
    env=st.dictionaries(WORDS.filter(lambda name: name and "=" not in name), WORDS),
    labels=st.dictionaries(WORDS, WORDS),
    cpu=st.none() | st.integers(1, 64_000),
    memory=st.none() | st.integers(6 << 20, 1 << 40),
)
def test_whatever_passes_the_check_can_be_said_and_keeps_its_words(
    argv: tuple[str, ...], env: dict[str, str], labels: dict[str, str], cpu: int, memory: int
) -> None:
    limits = Limits(cpu_millis=cpu, memory_bytes=memory)
    asked = spec(argv=argv, env=env, labels=labels, limits=limits)
    check(asked, LIMITS)
    said = json.loads(json.dumps(describe(asked, Config(), around())))
    assert said["entrypoint"] == list(argv)
    assert said["env"] == env
    assert said["labels"] == {**labels, **{name: said["labels"][name] for name in _OURS}}
    assert ("memory" in said["resource_limits"]) == (memory is not None)
    if cpu is not None:
        share = said["resource_limits"]["cpu"]
        assert share["quota"] >= 1000
        assert 1000 <= share["period"] <= 1_000_000
        assert cpu <= share["quota"] / share["period"] * 1000 < cpu + 1


_OURS = (
    *("indexify.managed", "managed", "type"),
    *(OWNER, "longshore.id", "longshore.sockets", "longshore.spec"),
)


@pytest.mark.parametrize(
    ("millis", "period", "quota"),
    [
        (1, 1_000_000, 1_000),
        (9, 1_000_000, 9_000),
        (10, 100_000, 1_000),
        (49, 100_000, 4_900),
        (50, 20_000, 1_000),
        (1500, 20_000, 30_000),
    ],
)
def test_a_share_of_a_core_is_as_small_as_it_was_asked_for(
    millis: int, period: int, quota: int
) -> None:
    asked = spec(limits=Limits(cpu_millis=millis))
    said = describe(asked, Config(), around())["resource_limits"]
    assert said["cpu"] == {"period": period, "quota": quota}


def test_nobody_can_ask_for_another_owners_label() -> None:
    asked = spec(labels={OWNER: "evil", "managed": "no", "type": "x"})
    labels = describe(asked, Config(), around())["labels"]
    assert (labels[OWNER], labels["managed"], labels["type"]) == ("w/driver", "true", "sandbox")


@pytest.mark.parametrize(
    ("user", "added"),
    [("", CAPABILITIES), ("0:0", CAPABILITIES), ("root", CAPABILITIES), ("1000", ()), ("app", ())],
)
def test_only_root_keeps_capabilities(user: str, added: tuple[str, ...]) -> None:
    said = describe(spec(), Config(), around(image=image(user=user)))
    assert (said["cap_drop"], said["cap_add"]) == (["ALL"], [f"CAP_{name}" for name in added])


def test_another_user_gets_what_an_operator_has_added() -> None:
    config = Config(cap_add=(*CAPABILITIES, "cap_net_raw"))
    said = describe(spec(), config, around(image=image(user="1000")))
    assert said["cap_add"] == ["CAP_NET_RAW"]


def test_trees_are_read_only_and_sockets_belong_to_the_user_inside() -> None:
    tree = Tree(source="/src", target="/rt", digest="d")
    said = describe(spec(trees=(tree,), sockets=True), Config(), around(sockets="/state/c/sockets"))
    first, second = said["mounts"]
    assert (first["source"], "ro" in first["options"]) == ("/src", True)
    assert (second["destination"], "U" in second["options"]) == ("/.longshore/sockets", True)
    assert said["env"] == {"LONGSHORE_SOCKETS": "/.longshore/sockets"}


def test_what_a_guest_blanks_is_kept_for_those_whom_it_starts() -> None:
    env = {"LONGSHORE_BLANKED": "LD_PRELOAD LC_ALL", "LD_PRELOAD": ""}
    said = describe(spec(env=env), Config(), around(image=image(env={"LD_PRELOAD": "/x.so"})))
    assert said["env"] == {**env, "LONGSHORE_RESTORE_LD_PRELOAD": "/x.so"}


def test_its_network_is_the_namespace_that_it_is_given() -> None:
    said = describe(spec(), Config(dns=("10.0.0.9",)), around(network=PLAN.at(7)))
    assert said["netns"] == {"nsmode": "path", "value": "/run/netns/b-m-7"}
    assert (said["labels"]["longshore.network"], said["dns_server"]) == ("7", ["10.0.0.9"])


def test_another_runtime_and_gpus_are_asked_for_by_name() -> None:
    said = describe(spec(), Config(runtime="runsc", gpus=("0", "GPU-1")), around())
    assert said["oci_runtime"] == "runsc"
    assert said["devices"] == [{"path": "nvidia.com/gpu=0"}, {"path": "nvidia.com/gpu=GPU-1"}]
    said = describe(spec(), Config(gpus="all"), around())
    assert said["devices"] == [{"path": "nvidia.com/gpu=all"}]
    assert not {"oci_runtime", "devices"} & describe(spec(), Config(), around()).keys()


def test_without_root_a_user_must_be_a_number() -> None:
    said = describe(spec(), Config(), around(rootless=True, image=image(user="1000")))
    assert said["userns"] == {"nsmode": "keep-id", "value": "uid=1000,gid=1000"}
    with pytest.raises(ImageError, match=r"the image's user is 'app'; .* `USER 1000:1000`"):
        describe(spec(), Config(), around(rootless=True, image=image(user="app")))


def test_a_digest_is_of_what_is_said_and_not_of_the_order() -> None:
    one, two = spec(env={"A": "1", "B": "2"}), spec(env={"B": "2", "A": "1"})
    assert digest(one) == digest(two) != digest(spec(env={"A": "2"}))


@given(st.text(max_size=140))
def test_a_name_is_one_that_podman_takes(text: str) -> None:
    try:
        name = name_of(ContainerId(text))
    except BackendError as exc:
        assert repr(text) in str(exc)  # noqa: PT017  # either is right, and both are checked
    else:
        assert name == f"indexify-{text}"
        assert name.isascii()
