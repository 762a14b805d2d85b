"""What to show to a registry: looked up where Podman's and Docker's own clients keep it.

Podman's service has files of its own, of the user that it runs as, and uses them when it is told
nothing. So what is found here is only sent along; finding nothing is no error.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Final

import anyio
from longshore_core import ImageError
from longshore_core.abc import Credentials

_HELPER_SECONDS: Final = 10.0
_TOKEN_USER: Final = "<token>"
"""What a helper answers as the user, when its secret is an identity token."""
_NOT_FOUND: Final = b"credentials not found"
_DOCKER_HUB: Final = "docker.io"
_ALSO_DOCKER_HUB: Final = frozenset({"index.docker.io", "registry-1.docker.io"})


def registry_of(reference: str) -> str:
    """The registry that a reference names, its port kept: `docker.io` where it names none."""
    first, slash, _ = reference.partition("/")
    is_registry = slash and ("." in first or ":" in first or first == "localhost")
    return _canonical(first) if is_registry else _DOCKER_HUB


def files(env: Mapping[str, str], uid: int) -> Iterator[Path]:
    """Where credentials may be, in the order in which they are asked."""
    if env.get("REGISTRY_AUTH_FILE"):
        yield Path(env["REGISTRY_AUTH_FILE"])
    runtime = env.get("XDG_RUNTIME_DIR")
    yield Path(runtime or f"/run/containers/{uid}", "containers" if runtime else "", "auth.json")
    home = env.get("HOME", "/root" if uid == 0 else "/nonexistent")
    yield Path(env.get("XDG_CONFIG_HOME") or f"{home}/.config", "containers", "auth.json")
    yield Path(env.get("DOCKER_CONFIG") or f"{home}/.docker", "config.json")


async def find_credentials(reference: str) -> Credentials | None:
    """What the worker's user has for an image's registry. Raises ImageError for a helper that
    breaks, and for a file that cannot be understood."""
    for path in files(os.environ, os.geteuid()):
        try:
            config: Any = json.loads(await anyio.Path(path).read_bytes())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
            continue  # a directory is what an engine makes of a file to mount that is not there
        except ValueError as exc:
            raise ImageError(f"{path} is not JSON: {exc}") from exc
        if isinstance(config, dict):
            found = await _in_file(config, reference, path)
            if found is not None:
                return found
    return None


async def _in_file(config: dict[str, Any], reference: str, path: Path) -> Credentials | None:
    registry = registry_of(reference)
    helpers = _entries(config, "credHelpers", path)
    if registry in helpers:
        return await _ask_helper(helpers[registry], registry)
    if found := _stored(_entries(config, "auths", path), reference, path):
        return found
    if store := config.get("credsStore"):
        return await _ask_helper(store, registry)
    return None


def _entries(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """By what references call a registry."""
    said = config.get(key) or {}
    if not isinstance(said, dict):
        raise ImageError(f"{path}: {key} must be an object, by the names of registries")
    return {_canonical(name): entry for name, entry in said.items()}


def _stored(entries: dict[str, Any], reference: str, path: Path) -> Credentials | None:
    """The entry for the longest part of the reference: a namespace may have its own."""
    for scope in _scopes(reference):
        entry = entries.get(scope) or {}
        if not isinstance(entry, dict):
            raise ImageError(f"{path}: the entry for {scope} must be an object")
        if entry.get("identitytoken"):
            return Credentials(username=_TOKEN_USER, password=entry["identitytoken"])
        if entry.get("auth"):
            try:
                pair = base64.b64decode(entry["auth"], validate=True).decode()
            except (ValueError, TypeError) as exc:
                raise ImageError(f"{path}: the entry for {scope} is not base64") from exc
            username, _, password = pair.partition(":")
            return Credentials(username=username, password=password.rstrip("\0"))
    return None


def _scopes(reference: str) -> Iterator[str]:
    registry = registry_of(reference)
    first, _, rest = reference.partition("/")
    repository = rest if _canonical(first) == registry else reference
    parts = repository.partition("@")[0].split("/")
    parts[-1] = parts[-1].partition(":")[0]
    for count in range(len(parts), -1, -1):
        yield "/".join((registry, *parts[:count]))


def _canonical(name: str) -> str:
    """A registry as references have it: files also have addresses of its API."""
    bare = name.partition("://")[2] or name
    host, _, path = bare.partition("/")
    host = _DOCKER_HUB if host in _ALSO_DOCKER_HUB else host
    return host if path.strip("/") in {"", "v1", "v2"} else f"{host}/{path.strip('/')}"


async def _ask_helper(name: str, registry: str) -> Credentials | None:
    program = f"docker-credential-{name}"
    asked = "https://index.docker.io/v1/" if registry == _DOCKER_HUB else registry
    try:
        # A file, not a pipe: a helper may end without reading.
        with anyio.fail_after(_HELPER_SECONDS), tempfile.TemporaryFile() as given:
            given.write(asked.encode())
            given.seek(0)
            done = await anyio.run_process(
                [program, "get"], stdin=given, stdout=PIPE, stderr=DEVNULL, check=False
            )
    except TimeoutError as exc:
        raise ImageError(f"{program} does not answer for {registry}", retryable=True) from exc
    except OSError as exc:
        raise ImageError(f"cannot run {program}, named for {registry}: {exc.strerror}") from exc
    if done.returncode:
        if _NOT_FOUND in done.stdout:
            return None
        raise ImageError(f"{program} failed for {registry}, with status {done.returncode}")
    try:
        said = json.loads(done.stdout)
        return Credentials(username=said["Username"], password=said["Secret"])
    except (ValueError, KeyError, TypeError):
        # Not chained: what it has said may hold the secret.
        raise ImageError(f"{program} answered for {registry} what is no credential") from None


def header(credentials: Credentials | None, registry: str) -> dict[str, str]:
    """How the engine wants to be told."""
    if credentials is None:
        return {}
    if credentials.username == _TOKEN_USER:
        said = {"identitytoken": credentials.password}
    else:
        said = {"username": credentials.username, "password": credentials.password}
    text = json.dumps({**said, "serveraddress": registry}).encode()
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text).decode()}
