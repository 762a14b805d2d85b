"""What the engine is asked to make: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import (
    BackendError,
    ContainerId,
    ContainerSpec,
    ImageError,
    Limits,
    Tree,
    UnsupportedCapability,
)
from longshore_docker.answers import Image
from longshore_docker.config import Config
from longshore_docker.specification import (
    Place,
    Placed,
    check,
    cpu_share,
    describe,
    digest,
    environment,
    labels,
    name_of,
    refuse_unkept,
)

SPEC = ContainerSpec(id=ContainerId("c1"), image="busybox", argv=("/run", "it"))
IMAGE = Image(id="sha256:1", platform="linux/amd64", user="", env={"LD_PRELOAD": "/x.so", "A": "1"})
ULIMITS = {"nofile": 5}


def placed(spec: ContainerSpec = SPEC, *, sockets: str | None = None) -> Placed:
    return Placed(spec=spec, owner="w/driver", image=IMAGE, place=Place("net", sockets))


def body(spec: ContainerSpec = SPEC, **config: object) -> dict[str, object]:
    return describe(Config.model_validate({"ulimits": ULIMITS, **config}), placed(spec))


def hosts(spec: ContainerSpec = SPEC, **config: object) -> dict[str, object]:
    return body(spec, **config)["HostConfig"]


# Names.


def test_a_container_is_called_as_operators_know_it() -> None:
    assert name_of(ContainerId("abc-1.2_x")) == "indexify-abc-1.2_x"


@given(st.text(min_size=1, max_size=300))
def test_every_id_has_a_name_that_the_engine_takes(text: str) -> None:
    name = name_of(ContainerId(text))
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert len(name) <= 128


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_different_ids_have_different_names(ids: list[str]) -> None:
    assert len({name_of(ContainerId(id_)) for id_ in ids}) == 2


# Limits.


@given(st.integers(min_value=1, max_value=512_000))
def test_a_share_of_cores_is_never_less_than_asked_for_nor_refused(millis: int) -> None:
    period, quota = cpu_share(millis)
    assert 1000 <= period <= 1_000_000
    assert quota >= 1000
    assert quota / period >= millis / 1000
    assert quota / period < millis / 1000 + 1e-3 or quota == 1000


def test_a_container_that_asks_for_no_limit_has_one_of_processes_only() -> None:
    given = hosts()
    assert given["PidsLimit"] == 4096
    assert not {"Memory", "MemorySwap", "CpuQuota", "StorageOpt"} & set(given)


def test_memory_is_limited_without_swap() -> None:
    given = hosts(replace(SPEC, limits=Limits(memory_bytes=64 << 20, pids=7)))
    assert (given["Memory"], given["MemorySwap"], given["PidsLimit"]) == (64 << 20, 64 << 20, 7)


# Walls.


def test_by_default_a_container_has_no_more_than_it_needs() -> None:
    given = hosts()
    assert given["CapDrop"] == ["ALL"]
    assert "NET_RAW" not in given["CapAdd"]
    assert given["SecurityOpt"] == ["no-new-privileges"]
    assert given["Privileged"] is False


def test_what_is_loosened_is_loosened_in_the_config() -> None:
    given = hosts(cap_add=["SYS_PTRACE"], cap_drop=[], no_new_privileges=False, runtime="runsc")
    assert (given["CapAdd"], given["CapDrop"]) == (["SYS_PTRACE"], [])
    assert (given["SecurityOpt"], given["Runtime"]) == ([], "runsc")


def test_gpus_are_asked_for_by_id_or_all_of_them() -> None:
    common = {"Driver": "nvidia", "Capabilities": [["gpu"]]}
    assert hosts(gpus=["GPU-1"])["DeviceRequests"] == [{**common, "DeviceIDs": ["GPU-1"]}]
    assert hosts(gpus="all")["DeviceRequests"] == [{**common, "Count": -1}]
    assert "DeviceRequests" not in hosts()


# What a container is given.


def test_trees_binds_and_sockets_are_mounted_where_they_belong() -> None:
    spec = replace(SPEC, trees=(Tree(source="/rt", target="/.longshore/runtime", digest="d"),))
    config = Config.model_validate({"binds": ["/data:/in:ro", "/out:/out"], "ulimits": ULIMITS})
    mounts = describe(config, placed(spec, sockets="/state/s"))["HostConfig"]["Mounts"]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in mounts] == [
        ("/rt", "/.longshore/runtime", True),
        ("/data", "/in", True),
        ("/out", "/out", False),
        ("/state/s", "/.longshore/sockets", False),
    ]


def test_a_container_learns_where_its_sockets_are_when_it_wants_any() -> None:
    assert "LONGSHORE_SOCKETS" not in environment(placed())
    assert environment(placed(sockets="/s"))["LONGSHORE_SOCKETS"] == "/.longshore/sockets"


def test_what_pid_1_blanks_reaches_user_processes_with_the_images_value() -> None:
    spec = replace(SPEC, env={"LONGSHORE_BLANKED": "LD_PRELOAD LD_AUDIT", "LD_PRELOAD": ""})
    env = environment(placed(spec))
    assert env["LD_PRELOAD"] == ""
    assert env["LONGSHORE_RESTORE_LD_PRELOAD"] == "/x.so"
    assert "LONGSHORE_RESTORE_LD_AUDIT" not in env


def test_the_value_of_the_spec_wins_over_that_of_the_image() -> None:
    env = {"LONGSHORE_BLANKED": "LD_PRELOAD", "LONGSHORE_RESTORE_LD_PRELOAD": "/mine.so"}
    assert environment(placed(replace(SPEC, env=env)))["LONGSHORE_RESTORE_LD_PRELOAD"] == "/mine.so"


@given(st.dictionaries(st.text(), st.text()))
def test_no_label_of_a_spec_hides_whose_a_container_is(given: dict[str, str]) -> None:
    hidden = {**given, "longshore.owner": "somebody", "managed": "no"}
    ours = labels(replace(SPEC, labels=hidden), "w/driver")
    assert ours["longshore.owner"] == "w/driver"
    assert (ours["managed"], ours["indexify.managed"]) == ("true", "true")
    assert given.keys() <= ours.keys()


def test_a_spec_is_known_again_and_told_from_another() -> None:
    assert digest(SPEC) == digest(replace(SPEC))
    assert digest(SPEC) != digest(replace(SPEC, env={"A": "2"}))


# What is refused.


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"limits": Limits(memory_bytes=1)},
            BackendError,
            "container c1 asks for 1 bytes of memory; the Docker engine gives no less than 6291456",
        ),
        ({"argv": ()}, BackendError, "container c1 names no program to run"),
        (
            {"env": {"A": "\0"}},
            BackendError,
            "container c1 has a NUL byte in its arguments or environment",
        ),
        (
            {"env": {"A=B": "C"}},
            BackendError,
            "container c1 has a variable whose name is empty or has '=' in it",
        ),
        (
            {"image": None},
            ImageError,
            "container c1 names no image, and the Docker driver needs one",
        ),
    ],
)
def test_what_the_engine_would_misunderstand_is_refused(
    change: dict[str, object], kind: type[BackendError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        check(replace(SPEC, **change))
    assert str(caught.value) == message


# What moby says of each, in daemon/daemon_unix.go.
NO_MEMORY = (
    "Your kernel does not support memory limit capabilities or the cgroup is not mounted. "
    "Limitation discarded."
)
NO_CPU = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
NO_PIDS = (
    "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. "
    "PIDs limit discarded."
)
NO_SWAP = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
    "Memory limited without swap."
)


@pytest.mark.parametrize(
    ("limits", "warning"),
    [
        (Limits(memory_bytes=1 << 26), NO_MEMORY),
        (Limits(cpu_millis=500), NO_CPU),
        (Limits(pids=5), NO_PIDS),
    ],
)
def test_a_limit_that_the_engine_leaves_out_is_not_left_out_in_silence(
    limits: Limits, warning: str
) -> None:
    with pytest.raises(UnsupportedCapability, match="container c1 asks for a limit: Your kernel"):
        refuse_unkept(replace(SPEC, limits=limits), ["something else", warning])
    refuse_unkept(SPEC, [warning])
    refuse_unkept(replace(SPEC, limits=limits), [NO_SWAP])
