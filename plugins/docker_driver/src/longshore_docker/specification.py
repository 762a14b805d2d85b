"""What the engine is asked to make, from a spec and the config. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

from longshore_core import (
    JSON,
    BackendError,
    ContainerId,
    ContainerSpec,
    ImageError,
    UnsupportedCapability,
)

from longshore_docker.answers import Container, Image
from longshore_docker.config import Config, parse_bind
from longshore_docker.quotas import held_by_image

PREFIX: Final = "indexify-"
OWNER: Final = "longshore.owner"
CONTAINER: Final = "longshore.container"
ROLE: Final = "longshore.role"
SPEC: Final = "longshore.spec"
NETWORK_ROLE: Final = "network"
MANAGED: Final = {"indexify.managed": "true", "managed": "true"}
"""What operators filter for."""

SOCKETS: Final = "LONGSHORE_SOCKETS"
SOCKETS_PLACE: Final = "/.longshore/sockets"
"""Where a container sees its directory for sockets."""
_BLANKED: Final = "LONGSHORE_BLANKED"
_RESTORE: Final = "LONGSHORE_RESTORE_"

LEAST_MEMORY: Final = 6 << 20
"""Below this the engine refuses a limit."""
_LEAST_QUOTA: Final = 1000
_LEFT_OUT: Final = "discarded"
"""How the engine ends what it says of a limit that its kernel does not know."""
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,117}")


class Place(NamedTuple):
    """Where a container is made."""

    network: str
    sockets: str | None
    """The host's side of its directory for sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A container that is to be made: what is decided before the engine is asked."""

    spec: ContainerSpec
    owner: str
    image: Image
    place: Place


def name_of(id_: ContainerId) -> str:
    """The container's name, which operators know: `indexify-<id>`."""
    if _NAME.fullmatch(id_):
        return PREFIX + id_
    plain = re.sub(r"[^a-zA-Z0-9_.-]", "-", id_)[:80]
    return f"{PREFIX}{plain}-{hashlib.sha256(id_.encode()).hexdigest()[:16]}"


def check(spec: ContainerSpec) -> None:
    """Refuse what the engine would misunderstand, or refuse with words that name nothing."""
    memory = spec.limits.memory_bytes
    if memory is not None and memory < LEAST_MEMORY:
        raise BackendError(
            f"container {spec.id} asks for {memory} bytes of memory; the Docker engine gives no "
            f"less than {LEAST_MEMORY}"
        )
    if not spec.argv or not spec.argv[0]:
        raise BackendError(f"container {spec.id} names no program to run")
    texts = (*spec.argv, *spec.env, *spec.env.values(), spec.cwd or "")
    if any("\0" in text for text in texts):
        raise BackendError(f"container {spec.id} has a NUL byte in its arguments or environment")
    if any(not name or "=" in name for name in spec.env):
        raise BackendError(
            f"container {spec.id} has a variable whose name is empty or has '=' in it"
        )
    if not spec.image:
        raise ImageError(f"container {spec.id} names no image, and the Docker driver needs one")


def digest(spec: ContainerSpec) -> str:
    """By which a container is known to have been made from this spec."""
    return hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()[:32]


def refuse_foreign(id_: ContainerId, there: Container, owner: str) -> None:
    """Refuse to take a name away from a container that is not this owner's."""
    whose = there.labels.get(OWNER)
    if whose != owner:
        raise BackendError(
            f"cannot create container {id_}: the name {there.name} is taken by container "
            f"{there.id[:12]} of {f'the worker {whose}' if whose else 'somebody else'}, which runs "
            f"{there.image}; rename or remove it"
        )


def refuse_unkept(spec: ContainerSpec, warnings: Sequence[str]) -> None:
    """Refuse a container of whose limits the engine says that it has left one out: it was away when
    it was asked what it can."""
    limits = spec.limits
    words = {"memory limit": limits.memory_bytes, "cpu": limits.cpu_millis, "pids": limits.pids}
    asked = [word for word, limit in words.items() if limit is not None]
    for said in warnings:
        if _LEFT_OUT in said and any(word in said.lower() for word in asked):
            raise UnsupportedCapability(f"container {spec.id} asks for a limit: {said}")


def describe(config: Config, placed: Placed) -> dict[str, JSON]:
    """The body of the engine's `create`."""
    spec = placed.spec
    body: dict[str, JSON] = {
        "Image": spec.image,
        "Entrypoint": list(spec.argv),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in environment(placed).items()],
        "WorkingDir": spec.cwd or "",
        "Labels": labels(spec, placed.owner),
        "AttachStdout": False,
        "AttachStderr": False,
        # Health is the guest's to tell.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {**_host(config, placed), **_limits(config, placed)},
    }
    return body if spec.cwd else {key: body[key] for key in body if key != "WorkingDir"}


def labels(spec: ContainerSpec, owner: str) -> dict[str, JSON]:
    """Those of the spec, and ours, which win."""
    ours = {OWNER: owner, CONTAINER: spec.id, ROLE: spec.kind.value, SPEC: digest(spec)}
    return {**spec.labels, **MANAGED, "type": spec.kind.value, **ours}


def environment(placed: Placed) -> dict[str, str]:
    """Of PID 1. What a guest blanks for itself reaches user processes under another name."""
    spec = placed.spec
    blanked = spec.env.get(_BLANKED, "").split()
    image = placed.image.env
    restored = {_RESTORE + name: image[name] for name in blanked if name in image}
    sockets = {SOCKETS: SOCKETS_PLACE} if placed.place.sockets else {}
    return {**restored, **spec.env, **sockets}


def _host(config: Config, placed: Placed) -> dict[str, JSON]:
    gpus = _gpus(config)
    return {
        "NetworkMode": placed.place.network,
        "Mounts": _mounts(config, placed),
        "Tmpfs": dict(config.tmpfs),
        "LogConfig": {"Type": config.log_driver, "Config": dict(config.log_options)},
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value} for name, value in config.ulimits.items()
        ],
        "ShmSize": config.shm_size,
        "CapDrop": list(config.cap_drop),
        "CapAdd": list(config.cap_add),
        "SecurityOpt": ["no-new-privileges"] if config.no_new_privileges else [],
        "ReadonlyRootfs": config.read_only,
        "Privileged": False,
        "RestartPolicy": {"Name": "no"},
        **({"Runtime": config.runtime} if config.runtime else {}),
        **({"DeviceRequests": [gpus]} if gpus else {}),
    }


def _mounts(config: Config, placed: Placed) -> list[JSON]:
    """Mounts and not binds: for these, the engine would make what is missing on the host."""
    mounts = [(tree.source, tree.target, True) for tree in placed.spec.trees]
    mounts += [parse_bind(bind) for bind in config.binds]
    if placed.place.sockets:
        mounts.append((placed.place.sockets, SOCKETS_PLACE, False))
    return [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
        for source, target, read_only in mounts
    ]


def _gpus(config: Config) -> dict[str, JSON] | None:
    if not config.gpus:
        return None
    which: dict[str, JSON] = (
        {"Count": -1} if config.gpus == "all" else {"DeviceIDs": list(config.gpus)}
    )
    return {"Driver": "nvidia", "Capabilities": [["gpu"]], **which}


def _limits(config: Config, placed: Placed) -> dict[str, JSON]:
    limits = placed.spec.limits
    given: dict[str, JSON] = {"PidsLimit": limits.pids or config.pids_limit}
    if limits.memory_bytes is not None:
        # The same for both: no swap.
        given |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.cpu_millis is not None:
        period, quota = cpu_share(limits.cpu_millis)
        given |= {"CpuPeriod": period, "CpuQuota": quota}
    if limits.disk_bytes is not None:
        size = limits.disk_bytes + held_by_image(placed.image.storage, placed.image.size_bytes)
        given["StorageOpt"] = {"size": str(size)}
    return given


def cpu_share(millis: int) -> tuple[int, int]:
    """Period and quota, in microseconds: a short period, unless its quota were below what kernels
    take."""
    for period in (20_000, 100_000, 1_000_000):
        quota = math.ceil(millis * period / 1000)
        if quota >= _LEAST_QUOTA:
            return period, quota
    return 1_000_000, _LEAST_QUOTA
