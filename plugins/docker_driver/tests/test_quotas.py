"""Where a limit of disk can be kept, and where it is better not promised."""

from __future__ import annotations

import pytest
from longshore_docker.quotas import limits_disk

ROOT = "1 0 254:0 / / rw,relatime - ext4 /dev/vda rw"
XFS = "2 1 254:1 / /var/lib/docker rw - xfs /dev/vdb rw,attr2,prjquota"
PLAIN = "2 1 254:1 / /var/lib/docker rw - xfs /dev/vdb rw,attr2,noquota"


@pytest.mark.parametrize(
    ("storage", "mounts", "able"),
    [
        ("overlay2 extfs", [ROOT], False),
        ("overlay2 xfs", [ROOT, XFS], True),
        ("overlay2 xfs", [ROOT, PLAIN], False),
        ("overlay2 xfs", [], False),
        ("btrfs", [], True),
        ("vfs", [ROOT], False),
    ],
)
def test_a_limit_of_disk_is_promised_where_it_is_kept(
    storage: str, mounts: list[str], able: bool
) -> None:
    assert limits_disk(storage, "/var/lib/docker", mounts) is able
