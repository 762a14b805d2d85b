"""What an operator may say about this driver, and the environment that follows from it."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
)

PRIVATE: Final = (
    "LONGSHORE_*",
    "GRPC_*",
    "PYTHON*",
    "VIRTUAL_ENV*",
    "LISTEN_*",
    "NOTIFY_SOCKET",
    "SSH_AUTH_SOCK",
    "WATCHDOG_*",
    "*CREDENTIAL*",
    "*PASSWORD*",
    "*SECRET*",
    "*TOKEN*",
    "*_KEY",
    "*_KEY_ID",
)
"""The worker's own business. Inherited only when the config names such a variable in full."""

_PLACES: Final = frozenset({"HOME", "PWD", "OLDPWD"})
"""Where the worker is, not where the container is."""


def _unquoted_off(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class Config(BaseModel):
    """`driver: {type: fork_exec}`, and what may stand beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cgroup: Annotated[Literal["auto", "off"], BeforeValidator(_unquoted_off)] = "auto"
    """`auto` uses every cgroup controller that the worker may; `off` none, so that no limit can be
    enforced."""

    inherit_env: tuple[str, ...] = ("*",)
    """Which of the worker's variables a container inherits: names, or patterns with `*`. Patterns
    leave out what is private to the worker, such as anything that looks like a credential."""

    rlimits: Mapping[str, NonNegativeInt] = Field(default_factory=dict[str, int])
    """Ceilings for each process of a container, by the names that `setrlimit` has for them, in
    lower case: `{nofile: 65536, core: 0}`."""

    pids_limit: PositiveInt = 4096
    """How many processes and threads a container may have that asks for no limit of its own: a fork
    bomb ends there. In force where the cgroup controller `pids` is."""

    @field_validator("rlimits")
    @classmethod
    def _known(cls, value: Mapping[str, int]) -> Mapping[str, int]:
        for name in value:
            if name != name.lower() or not hasattr(resource, f"RLIMIT_{name.upper()}"):
                raise ValueError(f"this host has no resource limit named {name!r}")
        return value


def environment(config: Config, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of PID 1: what it inherits from this process, and then what it is given."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _PLACES and _is_inherited(name, config.inherit_env)
    }
    # Last on the path: a host that has a `python` of its own keeps it, and one without has ours.
    path = f"{inherited.get('PATH', os.defpath)}:{os.path.dirname(sys.executable)}"
    # A guest that empties variables for itself asks what they were, for those whom it starts.
    blanked = [name for name in given.get("LONGSHORE_BLANKED", "").split() if name in inherited]
    restored = {f"LONGSHORE_RESTORE_{name}": inherited[name] for name in blanked}
    return {**inherited, "PATH": path, **restored, **given}


def _is_inherited(name: str, patterns: tuple[str, ...]) -> bool:
    if name in patterns:
        return True
    if any(fnmatchcase(name, private) for private in PRIVATE):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)
