"""Deleting what a sandbox has made of a directory."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import trees
from longshore_core.trees import delete_tree

NOBODY = 65534
KINDS = ("file", "link", "dangling", "fifo", "locked", "directory")


def nest(directory: Path, levels: int, name: str = "d") -> None:
    """Directories, one in the other, with a file in the last."""
    descriptor = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("last", os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def as_nobody(work: Callable[[], None]) -> int:
    """In a process of a user without privileges; the answer is its status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    return path


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory that a user without privileges has in a place that all may enter."""
    path = Path(tempfile.mkdtemp(prefix="longshore-trees-", dir="/tmp"))
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def test_a_directory_goes_however_deeply_it_is_nested(tree: Path) -> None:
    nest(tree, 3000)
    with few_descriptors(50):
        delete_tree(tree)
    assert not tree.exists()


def test_names_may_be_longer_than_a_path_can_be(tree: Path) -> None:
    nest(tree, 100, "n" * 255)
    nest(tree, 100, "m" * 255)
    delete_tree(tree)
    assert not tree.exists()


def test_no_descriptor_stays_open(tree: Path) -> None:
    nest(tree, 100)
    before = os.listdir("/proc/self/fd")
    delete_tree(tree)
    assert os.listdir("/proc/self/fd") == before


def test_links_go_and_what_they_lead_to_stays(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (tree / "directory").symlink_to(outside)
    (tree / "file").symlink_to(outside / "kept")
    (tree / "up").symlink_to("..")
    os.link(outside / "kept", tree / "hard")
    delete_tree(tree)
    assert sorted(tmp_path.iterdir()) == [outside]
    assert (outside / "kept").read_text() == "kept"


def test_a_link_in_its_place_goes_itself(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (tmp_path / "link").symlink_to(outside)
    delete_tree(tmp_path / "link")
    assert [each.name for each in tmp_path.rglob("*")] == ["outside", "kept"]


def test_what_is_not_there_is_no_error(tree: Path) -> None:
    for _ in range(2):
        delete_tree(tree)
    delete_tree(tree / "never" / "was")


@given(st.lists(st.lists(st.sampled_from(KINDS), max_size=4), max_size=4))
def test_whatever_is_in_it_goes(levels: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = top = Path(place, "tree")
        path.mkdir()
        for kinds in levels:
            for number, kind in enumerate(kinds):
                each = path / f"{number}"
                if kind == "link":
                    each.symlink_to(place)
                elif kind == "dangling":
                    each.symlink_to("nowhere")
                elif kind == "fifo":
                    os.mkfifo(each)
                elif kind == "file":
                    each.touch(mode=0)
                else:
                    each.mkdir(mode=0 if kind == "locked" else 0o700)
            path = path / "next"
            path.mkdir()
        delete_tree(top)
        assert os.listdir(place) == []


@pytest.mark.needs_root
def test_what_is_locked_against_its_owner_goes_too(nobodys: Path) -> None:
    def work() -> None:
        nest(nobodys, 40)
        (nobodys / "d" / "sealed" / "in").mkdir(parents=True)
        (nobodys / "d" / "sealed" / "in" / "file").touch()
        for mode, path in ((0, "d/sealed/in"), (0o400, "d/sealed"), (0o500, "d/d/d"), (0, "d")):
            os.chmod(nobodys / path, mode)
        (nobodys / "d2").mkdir(mode=0)
        delete_tree(nobodys / "d")
        delete_tree(nobodys / "d2")

    assert as_nobody(work) == 0
    assert list(nobodys.iterdir()) == []


@pytest.mark.needs_root
def test_what_cannot_be_deleted_is_named_when_the_rest_is(nobodys: Path) -> None:
    (nobodys / "tree" / "another's").mkdir(parents=True)
    (nobodys / "tree" / "another's" / "file").touch()
    (nobodys / "tree" / "empty").mkdir(mode=0)
    os.chown(nobodys / "tree", NOBODY, NOBODY)

    def work() -> None:
        nest(nobodys / "tree", 5)
        with pytest.raises(PermissionError) as caught:
            delete_tree(nobodys / "tree")
        assert caught.value.filename == str(nobodys / "tree" / "another's" / "file")

    assert as_nobody(work) == 0
    assert [each.name for each in (nobodys / "tree").iterdir()] == ["another's"]


def test_a_name_of_many_levels_is_told_in_few(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nest(tree, 500)
    refuse = os.unlink

    def unlink(name: str, **rest: int) -> None:
        if name == "last":
            raise PermissionError(1, "no")
        refuse(name, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(trees.os, "unlink", unlink)
        with pytest.raises(PermissionError) as caught:
            delete_tree(tree)
    assert caught.value.filename == f"{tree}/d/d/.../d/d/d/last"
    delete_tree(tree)


def test_what_vanishes_meanwhile_is_no_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thing goes just before it is deleted, or opened."""
    for name in ("a", "b"):
        (tree / name / "inner").mkdir(parents=True)
        (tree / name / "file").touch()
    really = {name: getattr(os, name) for name in ("open", "unlink", "rmdir")}

    def gone(name: str, **rest: int) -> None:
        really["rmdir"](name, **rest)
        raise FileNotFoundError(2, "gone")

    def unlink(name: str, **rest: int) -> None:
        really["unlink"](name, **rest)
        raise FileNotFoundError(2, "gone")

    def open_(name: str, *rest: int, dir_fd: int | None = None) -> int:
        if name == "inner":
            really["rmdir"](name, dir_fd=dir_fd)
        return really["open"](name, *rest, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(trees.os, "rmdir", gone)
        patch.setattr(trees.os, "unlink", unlink)
        patch.setattr(trees.os, "open", open_)
        delete_tree(tree)
    assert not tree.exists()


def test_a_directory_that_is_moved_away_leads_nowhere_else(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way up is another one then, and nothing is deleted there."""
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    (outside / "kept").touch()
    nest(tree, 100)
    deep = tree.joinpath(*["d"] * 60)
    really = os.unlink

    def unlink(name: str, **rest: int) -> None:
        if name == "last" and deep.exists():
            deep.rename(outside / "moved")
        really(name, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(trees.os, "unlink", unlink)
        delete_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()
    assert (outside / "d").exists()
