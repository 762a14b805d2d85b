"""What is kept of containers on this host, and how it goes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from longshore_core import BackendError, ContainerId
from longshore_podman.places import Places

ID = ContainerId("c")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, "w-1/driver")


@contextmanager
def busy(directory: Path) -> Iterator[None]:
    """Somebody has mounted something in there, and it cannot be deleted."""
    place = directory / "busy"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_what_is_nested_deeply_goes_with_its_container(places: Places, tmp_path: Path) -> None:
    places.make(ID)
    # More levels than Python recurses to.
    subprocess.run(["mkdir", "-p", "d/" * 1900], cwd=places.sockets(ID), check=True)
    for _ in range(2):
        places.remove(ID)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs_root
def test_what_cannot_be_removed_is_named_and_has_no_network_any_more(
    places: Places, tmp_path: Path
) -> None:
    places.make(ID, 7)
    with busy(places.sockets(ID)):
        with pytest.raises(BackendError) as caught:
            places.remove(ID)
        assert str(caught.value) == (
            f"cannot delete {tmp_path}/c, the place of container c: Device or resource busy"
        )
        assert caught.value.retryable
        assert places.all() == {ID}
        # Its number may be another container's when this is tried again.
        assert places.network(ID) is None
    places.remove(ID)
    assert list(tmp_path.iterdir()) == []


def test_another_owners_are_not_there(places: Places, tmp_path: Path) -> None:
    places.make(ID, 7)
    other = Places(tmp_path, "w-1/driver-2")
    assert (other.all(), other.networks()) == (frozenset(), frozenset())
    assert (places.all(), places.networks()) == ({ID}, {7})


def test_one_that_was_made_by_half_is_found(places: Places, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "owner").write_text("w-1/driver")
    assert places.all() == {"half"}
