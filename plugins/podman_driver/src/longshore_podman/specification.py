"""What Podman is told about a container. Pure: the same in, the same out.

`check` refuses what cannot be said before anything is made; `describe` says the rest, in the words
of Podman's SpecGenerator.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from longshore_core import (
    BackendError,
    ContainerId,
    ContainerSpec,
    ImageError,
    Limit,
    UnsupportedCapability,
)
from pydantic import TypeAdapter

from longshore_podman.answers import Image
from longshore_podman.config import CAPABILITIES, Config, default_ulimits
from longshore_podman.namespaces import Namespace
from longshore_podman.quotas import held_by_image

PREFIX: Final = "indexify-"
OWNER: Final = "longshore.owner"
ID: Final = "longshore.id"
NETWORK: Final = "longshore.network"
SOCKETS: Final = "longshore.sockets"
SPEC: Final = "longshore.spec"

_SOCKETS_TARGET: Final = "/.longshore/sockets"
_SOCKETS_ENV: Final = "LONGSHORE_SOCKETS"
_BLANKED: Final = "LONGSHORE_BLANKED"
_RESTORE: Final = "LONGSHORE_RESTORE_"
_SPEC_JSON: Final = TypeAdapter(ContainerSpec)
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_LEAST_MEMORY: Final = 6 << 20
_PERIODS_US: Final = (20_000, 100_000, 1_000_000)
_LEAST_QUOTA_US: Final = 1_000
_STOP_SECONDS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a container is put into: its owner's, the engine's and the host's."""

    owner: str
    image: Image
    limits: frozenset[Limit]
    """What the engine can enforce."""
    rootless: bool
    storage_driver: str
    sockets: str | None = None
    """The host's side of its directory for sockets."""
    network: Namespace | None = None


def name_of(id_: ContainerId) -> str:
    """What the engine calls a container. Raises BackendError for an id that is no name."""
    if not _SAFE_ID.fullmatch(id_) or id_ in {".", ".."}:
        raise BackendError(
            f"container id {id_!r} cannot name a container: it must be 1 to 128 letters, digits "
            "or any of _.-"
        )
    return PREFIX + id_


def digest(spec: ContainerSpec) -> str:
    """Tells specs apart that bear one id: the same for the same, in any process."""
    text = json.dumps(_SPEC_JSON.dump_python(spec, mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(spec: ContainerSpec, enforceable: frozenset[Limit]) -> None:
    """Raise BackendError or one of its kin for what no engine, or not this one, can make."""
    name_of(spec.id)
    label = f"container {spec.id}"
    wanted = {
        Limit.CPU: spec.limits.cpu_millis,
        Limit.MEMORY: spec.limits.memory_bytes,
        Limit.DISK: spec.limits.disk_bytes,
        Limit.PIDS: spec.limits.pids,
    }
    for limit, value in wanted.items():
        if value is not None and limit not in enforceable:
            known = ", ".join(sorted(enforceable)) or "none"
            raise UnsupportedCapability(
                f"{label}: this Podman cannot limit {limit} (only: {known})"
            )
        if value is not None and value <= 0:
            raise BackendError(f"{label}: a limit of {limit} of {value} is none; leave it out")
    memory = spec.limits.memory_bytes
    if memory is not None and memory < _LEAST_MEMORY:
        raise BackendError(
            f"{label} asks for {memory} bytes of memory; nothing starts with less than "
            f"{_LEAST_MEMORY}"
        )
    if not spec.argv or not spec.argv[0]:
        raise BackendError(f"{label}: argv is empty")
    if not spec.image:
        raise ImageError(f"{label}: names no image, and Podman runs nothing else")
    words = (*spec.argv, *spec.env, *spec.env.values(), spec.cwd or "")
    if any("\0" in word for word in words):
        raise BackendError(f"{label}: argv, env and cwd cannot hold a NUL character")
    if any(not name or "=" in name for name in spec.env):
        raise BackendError(f"{label}: env has a name that is empty or holds '='")


def describe(spec: ContainerSpec, config: Config, around: Surroundings) -> dict[str, object]:
    """A body for the engine to create the container from."""
    return {
        "name": name_of(spec.id),
        "image": spec.image,
        "entrypoint": list(spec.argv),
        "command": [],
        "env": dict(_environment(spec, around)),
        "httpproxy": False,
        "labels": dict(_labels(spec, around)),
        "mounts": _mounts(spec, config, around),
        "resource_limits": _resources(spec, config, around.limits),
        "log_configuration": _log(config),
        "r_limits": _ulimits(config),
        "shm_size": config.shm_size,
        "stop_timeout": _STOP_SECONDS,
        "systemd": "false",
        **_privileges(config, around.image),
        **_network(config, around.network),
        **_user(around),
        **_options(spec, config),
        **_storage(spec, around),
    }


def _environment(spec: ContainerSpec, around: Surroundings) -> Mapping[str, str]:
    # A guest that empties variables for itself asks what they were, for those whom it starts.
    blanked = spec.env.get(_BLANKED, "").split()
    restored = {
        _RESTORE + name: around.image.env[name] for name in blanked if name in around.image.env
    }
    sockets = {_SOCKETS_ENV: _SOCKETS_TARGET} if around.sockets else {}
    return {**restored, **spec.env, **sockets}


def _labels(spec: ContainerSpec, around: Surroundings) -> Mapping[str, str]:
    """Ours last: nobody can ask for another owner's."""
    joined = {NETWORK: str(around.network.number)} if around.network else {}
    return {
        **spec.labels,
        "indexify.managed": "true",
        "managed": "true",
        "type": spec.kind.value,
        OWNER: around.owner,
        ID: spec.id,
        SPEC: digest(spec),
        SOCKETS: "true" if around.sockets else "false",
        **joined,
    }


def _mounts(spec: ContainerSpec, config: Config, around: Surroundings) -> list[object]:
    mounts = [_bind(tree.source, tree.target, "ro", "nosuid", "nodev") for tree in spec.trees]
    if around.sockets:
        # `U`: it belongs to whoever is the user in there, by number or by name, and to nobody else.
        mounts.append(
            _bind(around.sockets, _SOCKETS_TARGET, "rw", "U", "nosuid", "nodev", "noexec")
        )
    for bind in config.binds:
        source, target, *mode = bind.split(":")
        mounts.append(_bind(source, target, *(mode or ("rw",)), "nosuid", "nodev"))
    for place, text in config.tmpfs.items():
        options = [*filter(None, text.split(",")), "nosuid", "nodev"]
        mounts.append({"type": "tmpfs", "destination": place, "options": options})
    return mounts


def _bind(source: str, target: str, *options: str) -> object:
    return {"type": "bind", "source": source, "destination": target, "options": list(options)}


def _resources(spec: ContainerSpec, config: Config, limits: frozenset[Limit]) -> dict[str, object]:
    asked = spec.limits
    resources: dict[str, object] = {}
    if asked.memory_bytes is not None:
        # As much with swap as without: no swap.
        resources["memory"] = {"limit": asked.memory_bytes, "swap": asked.memory_bytes}
    if asked.cpu_millis is not None:
        period, quota = cpu_share(asked.cpu_millis)
        resources["cpu"] = {"period": period, "quota": quota}
    if Limit.PIDS in limits:
        resources["pids"] = {"limit": asked.pids or config.pids_limit}
    return resources


def cpu_share(millis: int) -> tuple[int, int]:
    """Period and quota, in microseconds, of a share that `check` lets pass: a short period, unless
    its quota were below what kernels take."""
    shares = ((period, -(-millis * period // 1000)) for period in _PERIODS_US)
    return next(share for share in shares if share[1] >= _LEAST_QUOTA_US)


def _ulimits(config: Config) -> list[object]:
    # Podman raises files and processes as far as it can, where it is not told of them.
    told = {**default_ulimits(), **config.ulimits}
    return [{"type": name, "soft": value, "hard": value} for name, value in told.items()]


def _log(config: Config) -> dict[str, object]:
    options = {name: value for name, value in config.log_options.items() if name != "max-size"}
    is_file = config.log_driver == "k8s-file" and config.log_size
    size = {"size": config.log_size} if is_file else {}
    return {"driver": config.log_driver, "options": options, **size}


def _privileges(config: Config, image: Image) -> dict[str, object]:
    # What is added for another user than root, Podman makes ambient: its programs would have it.
    extra = tuple(name for name in config.cap_add if name not in CAPABILITIES)
    added = config.cap_add if _is_root(image.user) else extra
    return {
        "cap_drop": [_capability(name) for name in config.cap_drop],
        "cap_add": [_capability(name) for name in added],
        "no_new_privileges": config.no_new_privileges,
        "read_only_filesystem": config.read_only,
    }


def _capability(name: str) -> str:
    return name if name == "ALL" else f"CAP_{name}"


def _network(config: Config, network: Namespace | None) -> dict[str, object]:
    dns: dict[str, object] = {"dns_server": list(config.dns)} if config.dns else {}
    if network is not None:
        return {"netns": {"nsmode": "path", "value": network.path}, **dns}
    if config.network in {None, "none", "slirp4netns", "pasta"}:
        return {"netns": {"nsmode": config.network or "default"}, **dns}
    return {"netns": {"nsmode": "bridge"}, "Networks": {config.network: {}}, **dns}


def _user(around: Surroundings) -> dict[str, object]:
    """Without root, the image's user must be the worker's, or the worker could not reach it."""
    if not around.rootless or _is_root(around.image.user):
        return {}
    uid, _, gid = around.image.user.partition(":")
    if not uid.isdecimal() or not (gid or uid).isdecimal():
        raise ImageError(
            f"the image's user is {around.image.user!r}; without root, Podman must be told its "
            "number: build the image with `USER 1000:1000` or the like"
        )
    return {"userns": {"nsmode": "keep-id", "value": f"uid={uid},gid={gid or uid}"}}


def _options(spec: ContainerSpec, config: Config) -> dict[str, object]:
    """What is said only when there is something to say."""
    options: dict[str, object] = {}
    if spec.cwd:
        options["work_dir"] = spec.cwd
    if config.runtime:
        options["oci_runtime"] = config.runtime
    if config.gpus:
        names = ("all",) if config.gpus == "all" else config.gpus
        options["devices"] = [{"path": f"nvidia.com/gpu={name}"} for name in names]
    return options


def _storage(spec: ContainerSpec, around: Surroundings) -> dict[str, object]:
    if spec.limits.disk_bytes is None:
        return {}
    held = held_by_image(around.storage_driver, around.image.size_bytes)
    return {"storage_opts": {"size": str(spec.limits.disk_bytes + held)}}


def _is_root(user: str) -> bool:
    return user.partition(":")[0] in {"", "0", "root"}
