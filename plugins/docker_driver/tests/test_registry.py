"""Pulling from a registry that wants a password, and from one that does not answer."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import httpx
import pytest
from longshore_core import ImageError, PullProgress, RegistryError
from longshore_core.abc import ImageStore, Runtime

from tests.engines import images
from tests.engines.between import Exchange
from tests.engines.dockerd import Docker

PASSWORD = "open-sesame"
HTPASSWD = "user:$2b$05$Uxxoids0yiHceviwTY7WQOfqRlGy/0oVo2WxiMr80KN7lKX4X8Mpu\n"
"""The same, as `htpasswd -B` writes it."""


class Registry(NamedTuple):
    address: str
    """Host and port."""
    reference: str
    """Of an image in it that the engine does not have."""


@pytest.fixture(scope="session")
def registry(
    docker: Docker, require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """One that wants a password, with one image."""
    require(shutil.which("docker-registry"), "docker-registry")
    place = tmp_path_factory.mktemp("registry")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    (place / "htpasswd").write_text(HTPASSWD)
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(place / "data")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "tests", "path": str(place / "htpasswd")}},
    }
    (place / "config.yml").write_text(json.dumps(config))
    command = ["docker-registry", "serve", str(place / "config.yml")]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(address)
        yield Registry(address, push(docker, address, place))
    finally:
        process.kill()
        process.wait()


def wait_for(address: str) -> None:
    transport = httpx.HTTPTransport(retries=12)
    with httpx.Client(transport=transport) as client:
        assert client.get(f"http://{address}/v2/").status_code == 401


def push(docker: Docker, address: str, place: Path) -> str:
    reference = f"{address}/private/busybox:1"
    docker.run("tag", images.BUSYBOX.reference, reference)
    login = ["docker", "--host", docker.address, "--config", str(place / "login")]
    for command in (
        ["login", "--username", "user", "--password-stdin", address],
        ["push", reference],
    ):
        subprocess.run([*login, *command], input=PASSWORD.encode(), check=True, capture_output=True)
    docker.run("image", "rm", reference)
    return reference


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write this user's Docker configuration."""
    place = tmp_path / "docker"
    place.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(place))

    def write(**content: object) -> None:
        (place / "config.json").write_text(json.dumps(content))

    write()
    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Make a program that Docker asks for credentials; what it was asked is in a file."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")

    def make(name: str, answer: str) -> Path:
        program, asked = place / f"docker-credential-{name}", place / f"{name}.asked"
        program.write_text(f"#!/bin/sh\ncat >> {asked}\necho '{answer}'\n")
        program.chmod(0o755)
        return asked

    return make


@pytest.fixture
def store(runtime: Runtime, docker: Docker, registry: Registry) -> Iterator[ImageStore]:
    assert runtime.images is not None
    yield runtime.images
    docker.run("image", "rm", "--force", registry.reference, check=False)


async def test_the_password_of_a_login_is_used_with_the_registrys_port(
    store: ImageStore, registry: Registry, docker_config: Callable[..., None], docker: Docker
) -> None:
    auth = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    docker_config(auths={registry.address: {"auth": auth}})
    heard = list[PullProgress]()
    await store.ensure(registry.reference, heard.append)
    assert docker.run("image", "inspect", registry.reference, "--format", "{{.Os}}") == "linux"
    assert all(each.reference == registry.reference for each in heard)


@pytest.mark.parametrize("section", ["credHelpers", "credsStore"])
async def test_a_credential_helper_is_asked_for_the_registry_with_its_port(
    store: ImageStore,
    registry: Registry,
    docker_config: Callable[..., None],
    helper: Callable[[str, str], Path],
    section: str,
) -> None:
    answer = {"ServerURL": registry.address, "Username": "user", "Secret": PASSWORD}
    asked = helper("vault", json.dumps(answer))
    one = {"credHelpers": {registry.address: "vault"}, "credsStore": "vault"}[section]
    docker_config(**{section: one})
    await store.ensure(registry.reference, lambda _: None)
    assert registry.address in asked.read_text()


async def test_without_credentials_a_pull_is_denied_for_good(
    store: ImageStore, registry: Registry, docker_config: Callable[..., None]
) -> None:
    with pytest.raises(ImageError, match=f"cannot pull image {registry.reference}: .*auth"):
        await store.ensure(registry.reference, lambda _: None)


@pytest.mark.filterwarnings("ignore:docker-credential-missing:UserWarning")
async def test_a_helper_that_is_missing_is_named(
    store: ImageStore, registry: Registry, docker_config: Callable[..., None]
) -> None:
    docker_config(credHelpers={registry.address: "missing"})
    with pytest.raises(ImageError, match="docker-credential-missing"):
        await store.ensure(registry.reference, lambda _: None)


async def test_an_image_that_the_registry_does_not_have_is_refused_for_good(
    store: ImageStore, registry: Registry, docker_config: Callable[..., None]
) -> None:
    auth = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    docker_config(auths={registry.address: {"auth": auth}})
    with pytest.raises(ImageError, match=r"cannot pull image .*private/none"):
        await store.ensure(f"{registry.address}/private/none", lambda _: None)


async def test_a_registry_that_does_not_answer_may_be_asked_again(store: ImageStore) -> None:
    with pytest.raises(RegistryError) as caught:
        await store.ensure("127.0.0.1:1/none", lambda _: None)
    assert caught.value.retryable


async def test_all_who_ask_at_once_share_one_pull(
    store: ImageStore,
    registry: Registry,
    docker_config: Callable[..., None],
    helper: Callable[[str, str], Path],
) -> None:
    asked = helper("vault", json.dumps({"Username": "user", "Secret": PASSWORD}))
    docker_config(credsStore="vault")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(store.ensure, registry.reference, lambda _: None)
    assert asked.read_text().count(registry.address) == 1


async def test_a_pull_that_nobody_waits_for_is_abandoned(
    open_driver: Callable[..., object], docker_config: Callable[..., None]
) -> None:
    """The registry here takes the connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        async with open_driver() as runtime:
            with anyio.move_on_after(1) as scope:
                await runtime.images.ensure(f"{address}/silent", lambda _: None)
            assert scope.cancelled_caught


async def test_a_pull_that_takes_too_long_says_which_limit_it_met(
    open_driver: Callable[..., object], docker_config: Callable[..., None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        async with open_driver(pull_timeout_seconds=0.5) as runtime:
            with pytest.raises(RegistryError) as caught:
                await runtime.images.ensure(f"{address}/silent", lambda _: None)
    assert str(caught.value) == (
        f"image {address}/silent was not pulled within 0.5 s (pull_timeout_seconds)"
    )


@pytest.mark.parametrize("is_away", [False, True], ids=["at once", "when the engine is back"])
async def test_images_of_the_config_are_pulled_before_anybody_asks(
    open_between: Callable[..., object],
    docker: Docker,
    registry: Registry,
    docker_config: Callable[..., None],
    is_away: bool,
) -> None:
    auth = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    docker_config(auths={registry.address: {"auth": auth}})
    back = anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if back.is_set() or not is_away:
            await exchange.forward()

    prepull = ["localhost:9/none", registry.reference]
    async with open_between(engine, prepull=prepull) as runtime:
        back.set()
        with anyio.fail_after(30):
            async with runtime.health.fingerprints() as prints:
                while registry.reference not in (await anext(prints)).images:
                    pass
    docker.run("image", "rm", registry.reference)
