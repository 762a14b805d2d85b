"""What the engine says, in types: a few words out of its long answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from longshore_core import EngineUnavailable, Phase

_NEVER: Final = "0001-01-01"
"""How Podman writes a time that has not been."""
_NOT_BEGUN: Final = frozenset({"created", "configured"})
_PHASES: Final[Mapping[str, Phase]] = MappingProxyType(
    dict.fromkeys(("created", "configured", "initialized"), Phase.CREATED)
    | dict.fromkeys(("running", "paused", "stopping"), Phase.RUNNING)
    | dict.fromkeys(("exited", "stopped", "removing"), Phase.EXITED)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as the engine has it."""

    id: str
    """The engine's own, which is never used again."""
    name: str
    labels: Mapping[str, str]
    phase: Phase
    is_begun: bool = True
    """Whether the engine has had the runtime make it, as far as it knows."""
    runtime: str = ""
    """What makes it, by its name; empty in a listing."""
    is_paused: bool = False
    pid: int = 0
    """Of PID 1, as the engine's host sees it; 0 while there is none."""
    exit_code: int | None = None
    """`None` when the engine did not see it end. Above 128 it may stand for a signal."""
    ended_at: float = 0.0
    """By the clock of the engine's host; 0 while it has not ended."""
    oom: bool = False
    """Whether the engine has noticed that the kernel killed in there, at whatever time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    id: str
    platform: str
    size_bytes: int = 0
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What an engine is. Takes it long to say, so it is asked once."""

    version: str
    platform: str
    cores: int
    rootless: bool
    cgroup_version: str
    controllers: tuple[str, ...]
    storage_driver: str
    storage_path: str
    backing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecState:
    is_running: bool
    pid: int
    """As the engine's host sees it."""
    code: int


def informed(said: dict[str, Any]) -> Info:
    host, store = said["host"], said["store"]
    status: dict[str, str] = store.get("graphStatus") or {}
    controllers: list[str] = host.get("cgroupControllers") or []
    return Info(
        version=said["version"]["Version"],
        platform=f"{host['os']}/{host['arch']}",
        cores=host["cpus"],
        rootless=host["security"]["rootless"],
        cgroup_version=host.get("cgroupVersion", ""),
        controllers=tuple(controllers),
        storage_driver=store["graphDriverName"],
        storage_path=store["graphRoot"],
        backing=status.get("Backing Filesystem", ""),
    )


def depicted(said: dict[str, Any]) -> Image:
    config: dict[str, Any] = said.get("Config") or {}
    env: list[str] = config.get("Env") or []
    return Image(
        id=said["Id"],
        platform=f"{said['Os']}/{said['Architecture']}",
        size_bytes=said.get("Size") or 0,
        user=config.get("User", ""),
        env=dict(_pair(text) for text in env),
    )


def listed(said: dict[str, Any]) -> Container:
    state = str(said["State"]).lower()
    phase = _phase(said["Id"], state)
    seen = said["ExitedAt"] > 0 and said["ExitCode"] >= 0
    return Container(
        id=said["Id"],
        name=said["Names"][0],
        labels=said["Labels"] or {},
        phase=phase,
        is_begun=state not in _NOT_BEGUN,
        is_paused=state == "paused",
        pid=said["Pid"],
        exit_code=said["ExitCode"] if seen else None,
        ended_at=float(max(said["ExitedAt"], 0)),
    )


def inspected(said: dict[str, Any]) -> Container:
    state = said["State"]
    status = str(state["Status"]).lower()
    phase = _phase(said["Id"], status)
    has_ended = not state["FinishedAt"].startswith(_NEVER)
    return Container(
        id=said["Id"],
        name=said["Name"],
        labels=said["Config"]["Labels"] or {},
        phase=phase,
        is_begun=status not in _NOT_BEGUN,
        runtime=said.get("OCIRuntime", ""),
        is_paused=state["Paused"],
        pid=state["Pid"],
        exit_code=state["ExitCode"] if has_ended and state["ExitCode"] >= 0 else None,
        ended_at=datetime.fromisoformat(state["FinishedAt"]).timestamp() if has_ended else 0.0,
        oom=state["OOMKilled"],
    )


def _phase(id_: str, state: str) -> Phase:
    try:
        return _PHASES[state]
    except KeyError:
        raise EngineUnavailable(f"Podman says that container {id_[:12]} is {state!r}") from None


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
