"""Programs of the host's: `ip`, `iptables`, and the runtimes of containers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from subprocess import PIPE, STDOUT
from typing import Final

import anyio
from longshore_core import BackendError

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """How a program has ended, and all that it has said."""

    code: int
    said: str


async def run(
    command: Sequence[str],
    lines: Sequence[str] = (),
    *,
    check: bool = True,
    more: Mapping[str, str] | None = None,
) -> Done:
    """Run a program, with lines to read, and with more in its environment than nearly nothing.
    Raises BackendError with what it says."""
    environment = {**(more or {}), "PATH": PATH, "LC_ALL": "C"}
    try:
        # A file, not a pipe: a program that fails at the first line does not read the others.
        # Not left half done by who is cancelled: it takes milliseconds.
        with anyio.fail_after(_SECONDS, shield=True), tempfile.TemporaryFile() as given:
            given.write("".join(f"{line}\n" for line in lines).encode())
            given.seek(0)
            done = await anyio.run_process(
                command, stdin=given, stdout=PIPE, stderr=STDOUT, check=False, env=environment
            )
    except TimeoutError as exc:
        raise BackendError(f"{command[0]} takes too long", retryable=True) from exc
    except OSError as exc:
        raise BackendError(f"cannot run {command[0]}: {exc}") from exc
    said = done.stdout.decode(errors="replace").strip()
    if check and done.returncode:
        raise BackendError(f"{' '.join(command[:3])} failed: {said}", retryable=True)
    return Done(done.returncode, said)
