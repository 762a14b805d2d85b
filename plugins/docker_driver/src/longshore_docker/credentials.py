"""What this user's Docker configuration has for a registry: as the SDK reads it, but with a
deadline for the programs that it asks."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

import docker.auth
import docker.credentials
import docker.errors
from docker.credentials.errors import StoreError, process_store_error
from longshore_core import BackendError, ImageError

_HELPER_SECONDS: Final = 10.0


class _Helper(docker.credentials.Store):  # type: ignore[misc]  # untyped
    def _execute(self, subcmd: str, data_input: bytes | None) -> bytes:
        """As the SDK does, which waits for ever."""
        own = cast("Any", self)
        if own.exe is None:
            return cast("bytes", cast("Any", super())._execute(subcmd, data_input))  # noqa: SLF001
        try:
            done = subprocess.run(
                [own.exe, subcmd],
                input=data_input,
                stdout=subprocess.PIPE,
                check=True,
                timeout=_HELPER_SECONDS,
            )
        except subprocess.TimeoutExpired as exc:
            raise ImageError(f"{own.program} does not answer", retryable=True) from exc
        except subprocess.CalledProcessError as exc:
            raise cast("Any", process_store_error)(exc, own.program) from exc
        except OSError as exc:
            raise StoreError(f"cannot run {own.program}: {exc.strerror}") from exc
        return done.stdout


class _Config(docker.auth.AuthConfig):  # type: ignore[misc]  # untyped
    def _get_store_instance(self, name: str) -> Any:
        return cast("Any", _Helper)(name)


def find(registry: str) -> Mapping[str, str] | None:
    """By `credHelpers`, `credsStore` or `auths`, read again each time. Raises ImageError when a
    helper fails, or does not answer. Blocking: for a thread."""
    try:
        with configured():
            config = cast("Any", _Config).load_config(None, None)
            return cast("Mapping[str, str] | None", config.resolve_authconfig(registry))
    except (docker.errors.DockerException, StoreError, BackendError) as exc:
        reason = " ".join(str(exc).split())
        is_late = isinstance(exc, BackendError) and exc.retryable
        raise ImageError(f"no credentials for {registry}: {reason}", retryable=is_late) from exc


@contextmanager
def configured() -> Generator[None]:
    """For where the SDK reads this user's configuration, and takes its parts for what they should
    be."""
    try:
        yield
    except (AttributeError, TypeError, ValueError, docker.errors.InvalidConfigFile) as exc:
        if isinstance(exc, OSError):
            raise  # of requests'
        raise BackendError(
            f"the Docker configuration of the worker's user is malformed: {exc}"
        ) from exc
