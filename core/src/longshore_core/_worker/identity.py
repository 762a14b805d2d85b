"""Who this worker is: an id that outlives restarts, and a lock that keeps it single."""

from __future__ import annotations

import fcntl
import os
import stat
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from longshore_core._errors import ConfigError


@contextmanager
def locked_state_dir(state_dir: Path) -> Generator[None]:
    """Make `state_dir`, readable by this user alone, and hold it.

    Raises ConfigError when it cannot be made or kept private, or another worker holds it.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _keep_private(state_dir)
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
    except OSError as exc:
        os.close(descriptor)
        message = f"cannot lock {state_dir}: {exc.strerror}; choose a directory on a local disk"
        raise ConfigError("state_dir", message) from exc
    try:
        yield
    finally:
        os.close(descriptor)


def _keep_private(state_dir: Path) -> None:
    """Tokens lie in it. But a directory that others put things into is not ours to lock up."""
    if state_dir.stat().st_mode & stat.S_IWOTH:
        message = f"others can write to {state_dir}; choose a directory of the worker's own"
        raise ConfigError("state_dir", message)
    state_dir.chmod(0o700)


def executor_id(configured: str | None, state_dir: Path) -> str:
    """The id from the config, else the one kept in `state_dir`, generated the first time.

    Raises ConfigError when it cannot be read or kept: with another id, a worker would not know its
    own containers.
    """
    if configured is not None:
        return configured
    file = state_dir / "executor_id"
    try:
        return _kept(file) or _generated(file)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError("executor_id", f"cannot use {file}: {exc}; set one, or mend it") from exc


def _kept(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""


def _generated(file: Path) -> str:
    generated = str(uuid.uuid4())
    fresh = file.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as writing:
        writing.write(generated + "\n")
        writing.flush()
        # Else a loss of power could leave the name without the content, and that is another worker.
        os.fsync(writing.fileno())
    fresh.replace(file)
    return generated
