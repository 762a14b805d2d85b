"""Where credentials are found."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import ImageError
from longshore_podman.credentials import find_credentials, header, registry_of


def entry(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("docker", "bin", "run/containers"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def write(path: Path, config: object) -> None:
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("alpine", "docker.io"),
        ("library/alpine:3", "docker.io"),
        ("index.docker.io/library/alpine", "docker.io"),
        ("localhost/x", "localhost"),
        ("127.0.0.1:5000/a/b@sha256:0", "127.0.0.1:5000"),
        ("ghcr.io/a/b:1", "ghcr.io"),
    ],
)
def test_a_reference_names_its_registry_port_included(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


@given(st.text())
def test_any_text_has_a_registry(text: str) -> None:
    assert registry_of(text)


async def test_the_entry_for_the_longest_part_is_taken(home: Path) -> None:
    auths = {"r.io:5000": entry("a:b:c"), "r.io:5000/team": entry("t:s"), "r.io": entry("x:y")}
    write(home / "docker" / "config.json", {"auths": auths})
    found = await find_credentials("r.io:5000/team/app:1")
    assert found is not None
    assert (found.username, found.password) == ("t", "s")
    found = await find_credentials("r.io:5000/other/app:1")
    assert found is not None
    assert (found.username, found.password) == ("a", "b:c")
    assert await find_credentials("elsewhere.io/a") is None


async def test_podmans_own_file_comes_before_dockers(home: Path) -> None:
    write(home / "run" / "containers" / "auth.json", {"auths": {"r.io": entry("podman:1")}})
    write(home / "docker" / "config.json", {"auths": {"https://r.io/v1/": entry("docker:2")}})
    found = await find_credentials("r.io/a")
    assert found is not None
    assert found.username == "podman"


async def test_a_helper_is_asked_and_its_token_is_told_as_one(home: Path) -> None:
    helper = home / "bin" / "docker-credential-fake"
    helper.write_text(
        '#!/bin/sh\nread r\necho "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"$r\\"}"'
    )
    helper.chmod(0o755)
    write(home / "docker" / "config.json", {"credHelpers": {"r.io:5000": "fake"}})
    found = await find_credentials("r.io:5000/a")
    assert found is not None
    said = json.loads(base64.urlsafe_b64decode(header(found, "r.io:5000")["X-Registry-Auth"]))
    assert said == {"identitytoken": "r.io:5000", "serveraddress": "r.io:5000"}


async def test_a_helper_that_breaks_is_named_and_its_answer_is_not(home: Path) -> None:
    helper = home / "bin" / "docker-credential-fake"
    write(home / "docker" / "config.json", {"credsStore": "fake"})
    with pytest.raises(ImageError, match=r"cannot run docker-credential-fake, named for r\.io"):
        await find_credentials("r.io/a")
    helper.write_text("#!/bin/sh\necho hush")
    helper.chmod(0o755)
    with pytest.raises(ImageError) as caught:
        await find_credentials("r.io/a")
    assert "what is no credential" in str(caught.value)
    assert "hush" not in str(caught.value)
    helper.write_text("#!/bin/sh\necho credentials not found in native keychain; exit 1")
    assert await find_credentials("r.io/a") is None


async def test_a_file_that_is_not_json_is_named(home: Path) -> None:
    (home / "docker" / "config.json").write_text("{")
    with pytest.raises(ImageError, match=r"docker/config\.json is not JSON"):
        await find_credentials("r.io/a")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"credHelpers": ["fake"]}, "credHelpers must be an object, by the names of registries"),
        ({"auths": "r.io"}, "auths must be an object, by the names of registries"),
        ({"auths": {"r.io": "bob:s3cret"}}, "the entry for r.io must be an object"),
        ({"auths": {"r.io": {"auth": 7}}}, "the entry for r.io is not base64"),
        ({"auths": {"r.io": {"auth": "s3crét"}}}, "the entry for r.io is not base64"),
    ],
)
async def test_a_file_that_says_something_else_is_named_and_no_secret_of_it(
    home: Path, config: object, words: str
) -> None:
    file = home / "docker" / "config.json"
    write(file, config)
    with pytest.raises(ImageError) as caught:
        await find_credentials("r.io/a")
    assert str(caught.value) == f"{file}: {words}"


async def test_a_directory_in_place_of_a_file_is_no_file(home: Path) -> None:
    (home / "docker" / "config.json").mkdir()
    assert await find_credentials("r.io/a") is None


def test_no_secret_is_shown() -> None:
    assert header(None, "r.io") == {}
