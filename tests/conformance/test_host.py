"""What can be seen of the host: all that is left is named, and nothing of anybody else's."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from longshore_core.testing.host import HostView, Seen, leaks
from longshore_core.trees import delete_tree


@pytest.fixture
def view(tmp_path: Path) -> HostView:
    root = tmp_path / f"law-{os.getpid()}-of-this-test"
    (root / "state").mkdir(parents=True)
    (root / "scratch").mkdir()
    return HostView(mark=root.name, root=root, scratch=root / "scratch")


@contextmanager
def leaving(kind: str, view: HostView, require) -> Iterator[None]:
    """Leave something of a kind on the host, for a while."""
    match kind:
        case "process":
            env = {"LONGSHORE_LAW": view.mark}
            command = ["/bin/sh", "-c", "setsid sleep 60 & echo $!; exec sleep 60"]
            with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
                pid = int(child.stdout.readline())
                yield
                child.kill()
                os.kill(pid, 9)
        case "port":
            with socket.create_server(("127.0.0.1", 0)):
                yield
        case "file":
            (view.root / "state" / "left").touch()
            yield
            (view.root / "state" / "left").unlink()
        case "temporary file":
            path = Path(f"/tmp/{view.mark}-left")
            path.touch()
            yield
            path.unlink()
        case "descriptor":
            reading, writing = os.pipe()
            yield
            os.close(reading)
            os.close(writing)
        case "cgroup":
            group = Path(f"/sys/fs/cgroup/unified/{view.mark}")
            if not group.parent.is_dir():
                group = Path(f"/sys/fs/cgroup/{view.mark}")
            try:
                group.mkdir()
            except OSError as exc:
                require(False, f"a cgroup that we may make: {exc}")
            yield
            group.rmdir()
        case "mount":
            place = view.scratch / "mount"
            place.mkdir()
            done = subprocess.run(["mount", "-t", "tmpfs", view.mark, place], check=False)
            require(done.returncode == 0, "leave to mount")
            yield
            subprocess.run(["umount", place], check=True)
        case "rule":
            chain = ["-w", "-t", "filter"]
            require(shutil.which("iptables"), "iptables on PATH")
            comment = ["FORWARD", "-m", "comment", "--comment", view.mark, "-j", "RETURN"]
            done = subprocess.run(["iptables", *chain, "-A", *comment], check=False)
            require(done.returncode == 0, "a rule that we may make")
            yield
            subprocess.run(["iptables", *chain, "-D", *comment], check=True)
        case _:
            name = view.mark
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
            require(done.returncode == 0, "a network namespace that we may make")
            yield
            subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.parametrize(
    "kind",
    [
        *("process", "port", "file", "temporary file", "descriptor", "cgroup"),
        *("network namespace", "mount", "rule"),
    ],
)
def test_what_is_left_on_the_host_is_seen_and_named(kind: str, view: HostView, require) -> None:
    before = view.look()
    with leaving(kind, view, require):
        left = leaks(before, view.look())
    assert [each for each in left if each.startswith(f"{kind} ")], left
    if kind != "process":  # whose end nobody waits for
        assert leaks(before, view.look()) == ()


def test_what_is_left_nested_deeply_is_seen_and_named_in_few_words(view: HostView) -> None:
    before = view.look()
    subprocess.run(["mkdir", "-p", "d/" * 1500], cwd=view.root / "state", check=True)
    left = leaks(before, view.look())
    assert left[:2] == ("file state/d", "file state/d/d")
    assert len(left) < 20
    delete_tree(view.root / "state")


def test_what_others_do_on_the_host_is_not_taken_for_a_leak(view: HostView, tmp_path: Path) -> None:
    before = view.look()
    (tmp_path / "of-somebody-else").touch()
    (view.scratch / "of-the-law").touch()
    assert leaks(before, view.look()) == ()


@pytest.fixture
def namespace(require) -> Iterator[str]:
    """The name of a network namespace, which says nothing of who has made it."""
    name = os.urandom(6).hex()
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    require(done.returncode == 0, "a network namespace that we may make")
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


@contextmanager
def running(namespace: str, mark: str) -> Iterator[None]:
    """A process in the namespace, whose parent has nothing to do with this one."""
    command = ["ip", "netns", "exec", namespace, "setsid", "--fork"]
    command += ["sh", "-c", "echo $$; exec sleep 60"]
    env = {"PATH": os.environ["PATH"], "LONGSHORE_LAW": mark}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
        pid = int(child.stdout.readline())
    try:
        yield
    finally:
        os.kill(pid, 9)


def test_what_is_the_laws_by_use_is_known_though_it_bears_no_mark(
    view: HostView, namespace: str
) -> None:
    before = view.look()
    before = Seen({**before.keys, "network namespace": frozenset()}, before.own)
    with running(namespace, view.mark):
        assert not any(namespace in each for each in leaks(before, view.look()))
        view.recognise()
    assert f"network namespace /run/netns/{namespace}" in leaks(before, view.look())


def test_who_is_in_a_namespace_of_the_laws_is_known(view: HostView, namespace: str) -> None:
    before = view.look()
    with running(namespace, "nobody"), running(namespace, view.mark):
        view.recognise()
        assert sum("sleep 60" in each for each in leaks(before, view.look())) == 2


def test_a_namespace_of_somebody_else_is_not_taken_for_the_laws(
    view: HostView, namespace: str
) -> None:
    before = view.look()
    with running(namespace, "nobody"):
        view.recognise()
        assert leaks(before, view.look()) == ()


def test_an_interface_is_known_with_the_rules_that_name_it(view: HostView, require) -> None:
    name, longer = "lskit0", "lskit01"
    before = view.look()
    add = ["ip", "link", "add", name, "type", "bridge"]
    require(subprocess.run(add, capture_output=True, check=False).returncode == 0, "an interface")
    rules = [["-i", each, "-j", "RETURN"] for each in (name, longer)]
    command = ["iptables", "--wait", "-t", "mangle"]
    try:
        for rule in rules:
            subprocess.run([*command, "-A", "FORWARD", *rule], check=True)
        view.recognise(name)
        left = leaks(before, view.look())
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)
        for rule in rules:
            subprocess.run([*command, "-D", "FORWARD", *rule], check=True)
    assert f"interface {name}" in left
    assert any(f"-i {name} " in each for each in left)
    assert not any(longer in each for each in left)


def test_what_is_an_owners_is_the_laws_once_the_plugin_is_closed(view: HostView, require) -> None:
    owner = f"{view.mark}/worker-1"
    view.add_owner(owner)
    name = f"ls{hashlib.sha256(owner.encode()).hexdigest()[:8]}"
    add = ["ip", "link", "add", name, "type", "bridge"]
    running = view.running()
    require(subprocess.run(add, capture_output=True, check=False).returncode == 0, "an interface")
    try:
        opened = view.look(closed=True)
        assert leaks(opened, view.look()) == ()
        before = view.before_opening(running, opened)
        assert leaks(before, view.look(closed=True)) == (f"interface {name}",)
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)
