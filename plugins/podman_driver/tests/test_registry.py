"""Pulling from a registry that wants to know who asks."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from longshore_core import ImageError, PullProgress
from longshore_core.abc import Runtime

from tests.engines import images
from tests.engines.podman import Podman


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, podman: Podman, require: Callable[[object, str], None]
) -> Iterator[str]:
    """One with an image in it, for `bob` only; the answer is the image's reference."""
    require(
        shutil.which("docker-registry") and shutil.which("htpasswd"), "docker-registry, htpasswd"
    )
    require(podman.directory, "a private Podman, whose registries.conf trusts 127.0.0.1")
    place = tmp_path_factory.mktemp("registry")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    subprocess.run(["htpasswd", "-Bbc", place / "users", "bob", "s3cret"], check=True)
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": f"{place}/data"}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {"htpasswd": {"realm": "r", "path": f"{place}/users"}},
    }
    (place / "config.yml").write_text(json.dumps(config))
    process = subprocess.Popen(
        ["docker-registry", "serve", place / "config.yml"], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 10
        while not _listens(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        reference = f"127.0.0.1:{port}/team/busybox:1"
        podman.run("push", "--creds", "bob:s3cret", images.BUSYBOX.reference, reference)
        yield reference
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def logged_in(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    auth = base64.b64encode(b"bob:s3cret").decode()
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {registry.partition("/")[0]: {"auth": auth}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    return registry


async def test_a_pull_that_is_denied_says_so_and_what_to_do(
    runtime: Runtime, registry: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
    assert runtime.images is not None
    with pytest.raises(ImageError) as caught:
        await runtime.images.ensure(registry, lambda _: None)
    assert f"image {registry!r} cannot be pulled: " in str(caught.value)
    assert f"log in to {registry.partition('/')[0]} with `podman login`" in str(caught.value)
    assert not caught.value.retryable


async def test_what_the_registry_lacks_is_told_from_what_it_denies(
    runtime: Runtime, logged_in: str
) -> None:
    assert runtime.images is not None
    with pytest.raises(ImageError, match="manifest unknown") as caught:
        await runtime.images.ensure(logged_in.replace("busybox", "nothing"), lambda _: None)
    assert not caught.value.retryable


async def test_an_image_is_pulled_once_for_all_who_ask_and_all_hear_of_it(
    runtime: Runtime, podman: Podman, logged_in: str
) -> None:
    assert runtime.images is not None
    told: list[list[PullProgress]] = [[], [], []]
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for listener in told:
                tasks.start_soon(runtime.images.ensure, logged_in, listener.append)
    assert all(listener for listener in told)
    assert {progress.reference for listener in told for progress in listener} == {logged_in}
    podman.run("rmi", logged_in)


async def test_a_pull_is_abandoned_when_the_last_asker_leaves(
    runtime: Runtime, podman: Podman, logged_in: str
) -> None:
    assert runtime.images is not None
    with anyio.CancelScope() as scope:
        await runtime.images.ensure(logged_in, lambda _: scope.cancel())
    assert scope.cancelled_caught
    with anyio.fail_after(60):
        await runtime.images.ensure(logged_in, lambda _: None)
    podman.run("rmi", logged_in)
