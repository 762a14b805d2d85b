"""What laws run as PID 1: a few words of shell, all of which a model can play, too.

    exit N · exec sleep N · kill -NAME $$ · trap '' NAME · trap 'exit N' NAME · : > "$VAR/name"
    [ "$NAME" = "text" ] || exit N · sleep N & wait · echo WORD · echo WORD >&2

A program that has something to prepare says `ready` in its directory for sockets, where it has
one: a signal that comes before a trap is set would prove nothing.
"""

from __future__ import annotations

from typing import Final

SHELL: Final = "/bin/sh"
READY: Final = "ready"
STARTS: Final = "starts"

FOREVER: Final = "exec sleep 1000"
IGNORES_TERM: Final = f"trap '' TERM; {{ready}}{FOREVER}"


def exits(code: int) -> str:
    return f"exit {code}"


def kills_itself(name: str) -> str:
    return f"kill -{name} $$"


def says(out: str, err: str) -> str:
    """Writes a line to each of its streams."""
    return f"echo {out}; echo {err} >&2"


def heeds_term(code: int) -> str:
    """Ends with the code when it is told to terminate."""
    return f"trap 'exit {code}' TERM; {{ready}}sleep 1000 & wait"


def checks_env(name: str, value: str) -> str:
    """Ends with 0 when the variable has the value, else with 9."""
    return f'[ "${name}" = "{value}" ] || exit 9; exit 0'


def argv(script: str, *, sockets: bool) -> tuple[str, ...]:
    """The arguments that run a script; `{ready}` in it is where it has prepared all."""
    ready = f': > "$LONGSHORE_SOCKETS/{READY}"; ' if sockets else ""
    return (SHELL, "-c", script.replace("{ready}", ready))
