"""What the kernel's files say about cgroups, and what they are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import ContainerId, Limits
from longshore_forkexec.cgroups import (
    UNIFIED,
    Mount,
    Setting,
    open_cgroups,
    parent,
    parse_memberships,
    parse_mounts,
    settings,
)

HYBRID = """\
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
31 25 0:27 / /sys/fs/cgroup/memory rw,relatime shared:7 master:1 - cgroup cgroup rw,memory
32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
"""
IN_A_CONTAINER = "600 599 0:26 /docker/ab\\040c /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"

paths = st.lists(
    st.from_regex(r"[a-z.:@-]{1,8}", fullmatch=True).filter(lambda s: s not in (".", ".."))
)


def mount(point: str, root: str = "/") -> Mount:
    return Mount(PurePosixPath(point), PurePosixPath(root))


def test_hierarchies_of_both_versions_are_found_side_by_side() -> None:
    found = parse_mounts(HYBRID)
    assert found[UNIFIED] == mount("/sys/fs/cgroup/unified")
    assert found["memory"] == mount("/sys/fs/cgroup/memory")
    assert found["cpu"] == found["cpuacct"] == mount("/sys/fs/cgroup/cpu,cpuacct")
    assert "pids" not in found


def test_a_mount_shows_which_part_of_the_hierarchy_it_shows() -> None:
    assert parse_mounts(IN_A_CONTAINER) == {UNIFIED: mount("/sys/fs/cgroup", "/docker/ab c")}


def test_memberships_are_by_hierarchy() -> None:
    text = "4:memory:/a/b:c\n1:cpu,cpuacct:/\n0::/user.slice\n"
    assert parse_memberships(text) == {
        "memory": "/a/b:c",
        "cpu": "/",
        "cpuacct": "/",
        UNIFIED: "/user.slice",
    }


@given(st.text())
def test_nonsense_from_the_kernel_is_passed_over(text: str) -> None:
    parse_mounts(text)
    parse_memberships(text)


@pytest.mark.parametrize(
    ("root", "member", "expected"),
    [
        ("/", "/system.slice/longshore.service", "/cg/system.slice"),
        ("/", "/longshore.service", "/cg"),
        ("/", "/", "/cg"),
        ("/docker/ab", "/docker/ab", "/cg"),
        ("/docker/ab", "/docker/ab/worker", "/cg"),
        ("/docker/ab", "/elsewhere", "/cg"),
    ],
)
def test_the_base_is_beside_the_workers_group(root: str, member: str, expected: str) -> None:
    assert parent(mount("/cg", root), member) == Path(expected)


@given(paths, paths)
def test_the_base_never_leaves_the_mount(root: list[str], member: list[str]) -> None:
    found = parent(mount("/cg", "/" + "/".join(root)), "/" + "/".join(member))
    assert found.is_relative_to("/cg")
    assert ".." not in found.parts


@pytest.mark.parametrize(
    ("controller", "unified", "expected"),
    [
        ("cpu", True, [Setting("cpu.max", "50000 100000")]),
        (
            "cpu",
            False,
            [Setting("cpu.cfs_period_us", "100000"), Setting("cpu.cfs_quota_us", "50000")],
        ),
        (
            "memory",
            True,
            [Setting("memory.max", "1024"), Setting("memory.swap.max", "0", required=False)],
        ),
        (
            "memory",
            False,
            [
                Setting("memory.limit_in_bytes", "1024"),
                Setting("memory.memsw.limit_in_bytes", "1024", required=False),
            ],
        ),
        ("pids", True, [Setting("pids.max", "7")]),
        ("pids", False, [Setting("pids.max", "7")]),
    ],
)
def test_each_version_is_told_limits_in_its_own_words(controller, unified, expected) -> None:
    limits = Limits(cpu_millis=500, memory_bytes=1024, pids=7)
    assert settings(controller, limits, unified=unified) == expected
    assert settings(controller, Limits(), unified=unified) == []


def test_a_share_of_a_core_too_small_for_the_kernel_becomes_the_least_it_takes() -> None:
    (setting,) = settings("cpu", Limits(cpu_millis=1), unified=True)
    assert setting.value == "1000 100000"


@pytest.fixture
def neighbour() -> Iterator[Path]:
    """A group that a worker has left, beside those of this process."""
    probe = open_cgroups(f"probe-{os.getpid()}")
    bases = [path.parent.parent for path in probe.paths(ContainerId("c"))]
    probe.close()
    if not bases:
        pytest.skip("no cgroups on this host")
    left = bases[0] / f"longshore-dead-{os.getpid()}"
    (left / "shims").mkdir(parents=True)
    yield left
    for group in (left / "container-c", left / "shims", left):
        if group.exists():
            group.rmdir()


def test_what_a_worker_left_that_was_killed_is_swept_by_one_beside_it(neighbour: Path) -> None:
    open_cgroups(f"next-{os.getpid()}").close()
    assert not neighbour.exists()


def test_what_has_a_container_is_left_to_its_owner(neighbour: Path) -> None:
    (neighbour / "container-c").mkdir()
    open_cgroups(f"next-{os.getpid()}").close()
    assert (neighbour / "shims").exists()


def test_the_living_keep_their_groups_until_they_close_them(neighbour: Path) -> None:
    living = open_cgroups(f"living-{os.getpid()}")
    open_cgroups(f"next-{os.getpid()}").close()
    groups = [path.parent for path in living.paths(ContainerId("c"))]
    assert all(group.exists() for group in groups)
    living.close()
    assert not any(group.exists() for group in groups)
