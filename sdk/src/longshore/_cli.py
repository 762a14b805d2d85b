"""The `longshore` command: everything a person meets before a sub-command takes over.

`--version` answers before click is imported: shells and scripts ask for it often. Whatever ends a
command becomes an exit status here, once: 2 when the operator must act (on the configuration, or on
a plugin), 1 for what the world did; one line says why, and our own errors never show a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final, cast

from longshore import __version__

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `longshore` with these arguments (default: the process's); the answer is its status."""
    _fill_closed_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        sys.stdout.write(f"longshore {__version__}\n")
        return 0
    status, failures = 0, list[BaseException]()
    try:
        # Not at the top: --version must not pay for click. In here: Ctrl-C may come this early.
        from longshore._group import invoke

        status = max(invoke(words), _flush())
    except* (KeyboardInterrupt, BrokenPipeError) as group:
        failures += _leaves(group)
    # Evaluated only once something was raised: whoever raised one of the kernel's errors has
    # imported the kernel, so asking for its classes never does.
    except* _kernel_errors() as group:
        failures += _leaves(group)
    return max([status, *map(_report, failures)])


def _fill_closed_streams() -> None:
    """Give what the caller has closed to /dev/null, before a file of ours gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def _flush() -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError as exc:
        return _report(exc)
    except OSError as exc:
        _discard_output()
        sys.stderr.write(f"error: cannot write to standard output: {exc.strerror}\n")
        return 1
    return 0


def _discard_output() -> None:
    # Python flushes stdout once more at exit, and must not complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(failure: BaseException) -> int:
    """Say on stderr what ended the command, and answer the exit status for it."""
    if isinstance(failure, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(failure, BrokenPipeError):
        # Whoever read us has gone.
        _discard_output()
        return BROKEN_PIPE
    sys.stderr.write(f"error: {failure}\n")
    return 2 if isinstance(failure, _kernel_errors("ConfigError", "PluginError")) else 1


def _kernel_errors(*names: str) -> tuple[type[Exception], ...]:
    kernel = sys.modules.get("longshore_core")
    wanted = names or ("ConfigError", "PluginError", "BackendError", "RequestError")
    return tuple(getattr(kernel, name) for name in wanted) if kernel else ()


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for inner in group.exceptions:
        if isinstance(inner, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", inner))
        else:
            yield inner
