"""Who this worker is: an id that outlives restarts, and a lock that keeps it single."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from longshore_core._errors import ConfigError


@contextmanager
def locked_state_dir(state_dir: Path) -> Generator[None]:
    """Make `state_dir`, readable by this user alone, and hold it.

    Raises ConfigError when it cannot be made, or another worker holds it.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_dir.chmod(0o700)
        descriptor = os.open(
            state_dir / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as exc:
        message = f"cannot use {state_dir}: {exc.strerror}; choose a directory that is writable"
        raise ConfigError("state_dir", message) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        message = f"{state_dir} is held by another worker; stop it or choose another directory"
        raise ConfigError("state_dir", message) from exc
    try:
        yield
    finally:
        os.close(descriptor)


def executor_id(configured: str | None, state_dir: Path) -> str:
    """The id from the config, else the one kept in `state_dir`, generated the first time."""
    if configured is not None:
        return configured
    file = state_dir / "executor_id"
    if file.exists():
        kept = file.read_text(encoding="utf-8").strip()
        if kept:
            return kept
    generated = str(uuid.uuid4())
    fresh = file.with_suffix(".new")
    fresh.write_text(generated + "\n", encoding="utf-8")
    fresh.replace(file)
    return generated
