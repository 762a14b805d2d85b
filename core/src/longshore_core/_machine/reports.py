"""What the worker has to tell the server. A report is kept until the server has taken it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from longshore_core._machine.life import Ending
from longshore_core._model import ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStarted:
    kind: Literal["started"] = "started"
    container: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerTerminated:
    kind: Literal["terminated"] = "terminated"
    container: ContainerId
    incarnation: int
    why: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFailed:
    kind: Literal["snapshot_failed"] = "snapshot_failed"
    container: ContainerId
    snapshot: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationFailed:
    kind: Literal["allocation_failed"] = "allocation_failed"
    allocation: str
    container: ContainerId
    function: tuple[str, str, str] = ("", "", "")
    """Namespace, application, function: echoed from the allocation."""
    function_call: str = ""
    request: str = ""


Report: TypeAlias = ContainerStarted | ContainerTerminated | SnapshotFailed | AllocationFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A report and its place in line: delivered in the order of `number`, at least once."""

    number: int
    report: Report
