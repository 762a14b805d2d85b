"""What the engine answers, as far as this driver reads it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from longshore_core import Phase

JOINED: Final = "container:"
"""Begins the network mode of a container that is in another one's network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container, as `inspect` has it."""

    id: str
    name: str
    image: str
    labels: Mapping[str, str]
    status: str
    pid: int
    """Of PID 1, on the engine's host; 0 when it does not run."""
    exit_code: int
    oom_killed: bool
    started_at: str
    network_mode: str
    mounts: tuple[str, ...]
    """Where in the container something is mounted."""
    addresses: tuple[str, ...]
    netns: str | None

    @property
    def phase(self) -> Phase:
        match self.status:
            case "created":
                return Phase.CREATED
            case "running" | "paused" | "restarting":
                return Phase.RUNNING
            case _:
                return Phase.EXITED

    @property
    def holder(self) -> str | None:
        """The id of the container whose network it is in."""
        mode = self.network_mode
        return mode.removeprefix(JOINED) if mode.startswith(JOINED) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A container, as `ps` has it."""

    id: str
    name: str
    labels: Mapping[str, str]
    is_running: bool
    network_mode: str
    sources: frozenset[str]
    """What of the engine's host is mounted in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that the engine has."""

    id: str
    platform: str
    user: str
    env: Mapping[str, str]
    size_bytes: int = 0
    storage: str = ""
    """The driver that keeps it, such as `overlay2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """The engine."""

    version: str
    machine: str
    """As `uname -m` has it."""
    platform: str
    cores: int
    memory_bytes: int
    directory: str
    limits_memory: bool
    limits_cpu: bool
    limits_pids: bool
    storage: str
    """What keeps the containers' files, and on which file system."""


def read_container(answer: Mapping[str, Any]) -> Container:
    state, host = answer["State"], answer["HostConfig"]
    settings = answer["NetworkSettings"]
    networks = cast("Mapping[str, Any]", settings.get("Networks") or {}).values()
    found: list[str | None] = [
        net.get(key) for net in networks for key in ("IPAddress", "GlobalIPv6Address")
    ]
    return Container(
        id=answer["Id"],
        name=answer["Name"].removeprefix("/"),
        image=answer["Config"].get("Image") or answer["Image"],
        labels=answer["Config"].get("Labels") or {},
        status=state["Status"],
        pid=state["Pid"],
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        started_at=state["StartedAt"],
        network_mode=host["NetworkMode"],
        mounts=tuple(mount["Destination"] for mount in answer.get("Mounts") or ()),
        addresses=tuple(address for address in found if address),
        netns=settings.get("SandboxKey") or None,
    )


def read_listed(answer: Mapping[str, Any]) -> Listed:
    return Listed(
        id=answer["Id"],
        # One that is being removed has lost its name.
        name=next(iter(answer.get("Names") or ("",))).removeprefix("/"),
        labels=answer.get("Labels") or {},
        is_running=answer["State"] == "running",
        network_mode=answer["HostConfig"]["NetworkMode"],
        sources=frozenset(mount.get("Source", "") for mount in answer.get("Mounts") or ()),
    )


def read_image(answer: Mapping[str, Any]) -> Image:
    config: Any = answer.get("Config") or {}
    pairs: Any = (text.partition("=") for text in config.get("Env") or ())
    words = (answer["Os"], answer["Architecture"], answer.get("Variant"))
    return Image(
        id=answer["Id"],
        platform="/".join(word for word in words if word),
        user=config.get("User") or "",
        env={name: value for name, _, value in pairs},
        size_bytes=answer.get("Size") or 0,
        storage=(answer.get("GraphDriver") or {}).get("Name") or "",
    )


def read_info(info: Mapping[str, Any], version: Mapping[str, Any]) -> Info:
    return Info(
        version=str(version["Version"]),
        machine=info["Architecture"],
        platform=f"{version['Os']}/{version['Arch']}",
        cores=info["NCPU"],
        memory_bytes=info["MemTotal"],
        directory=info.get("DockerRootDir") or "/",
        limits_memory=bool(info.get("MemoryLimit")),
        limits_cpu=bool(info.get("CpuCfsQuota")),
        limits_pids=bool(info.get("PidsLimit")),
        storage=_storage(info),
    )


def _storage(info: Mapping[str, Any]) -> str:
    status: Any = info.get("DriverStatus") or ()
    backing = next((value for key, value in status if key == "Backing Filesystem"), "")
    return f"{info.get('Driver', '')} {backing}".strip()
