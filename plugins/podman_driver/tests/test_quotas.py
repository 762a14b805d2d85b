"""Where a limit of disk can be kept, and where it is better not promised."""

from __future__ import annotations

import pytest
from longshore_podman.answers import Info
from longshore_podman.quotas import limits_disk

ROOT = "/dev/vda / ext4 rw,relatime 0 0"
XFS = "/dev/vdb /var/lib/containers xfs rw,attr2,prjquota 0 0"
PLAIN = "/dev/vdb /var/lib/containers xfs rw,attr2,noquota 0 0"
BESIDE = "/dev/vdc /var/lib/cont xfs rw,prjquota 0 0"


@pytest.mark.parametrize(
    ("driver", "backing", "mounts", "able"),
    [
        ("overlay", "extfs", [ROOT], False),
        ("overlay", "xfs", [ROOT, XFS], True),
        ("overlay", "xfs", [XFS, ROOT], True),
        ("overlay", "xfs", [ROOT, PLAIN], False),
        ("overlay", "xfs", [ROOT, XFS, PLAIN], False),
        ("overlay", "xfs", [ROOT, BESIDE], False),
        ("overlay", "xfs", [], False),
        ("btrfs", "", [], True),
        ("vfs", "", [ROOT], False),
    ],
)
def test_a_limit_of_disk_is_promised_where_it_is_kept(
    driver: str, backing: str, mounts: list[str], able: bool
) -> None:
    assert limits_disk(info(driver, backing), mounts) is able


@pytest.mark.parametrize(("driver", "backing"), [("btrfs", ""), ("overlay", "xfs")])
def test_without_root_no_quota_can_be_set(driver: str, backing: str) -> None:
    assert not limits_disk(info(driver, backing, rootless=True), [XFS])


def info(storage_driver: str, backing: str, *, rootless: bool = False) -> Info:
    return Info(
        version="5.0.0",
        platform="linux/amd64",
        cores=2,
        rootless=rootless,
        cgroup_version="v2",
        controllers=("cpu", "memory", "pids"),
        storage_driver=storage_driver,
        storage_path="/var/lib/containers/storage",
        backing=backing,
    )
