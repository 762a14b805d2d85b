"""Running an application as a command: its own errors become one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NoReturn, cast

import anyio

from longshore_core._errors import KernelBug, LongshoreError

EXIT_REFUSED = 2
"""A configuration, a plugin or the host has to change before another try makes sense."""


def run_application(main: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run `main(*args)` on asyncio to its end.

    An error that a person can act on ends the process with exit code 2 and one line; a defect of
    ours keeps its traceback.
    """
    try:
        anyio.run(main, *args)
    except KeyboardInterrupt:
        sys.exit(130)
    except LongshoreError as exc:
        refuse(exc)
    except ExceptionGroup as group:
        leaves = list(_leaves(group))
        actionable = [leaf for leaf in leaves if isinstance(leaf, LongshoreError)]
        if len(actionable) != len(leaves) or any(isinstance(leaf, KernelBug) for leaf in leaves):
            raise
        refuse(actionable[0])


def refuse(exc: LongshoreError) -> NoReturn:
    """End the process over `exc`."""
    if isinstance(exc, KernelBug):
        raise exc
    print(f"error: {exc}", file=sys.stderr)  # noqa: T201  # what the person who typed it reads
    sys.exit(EXIT_REFUSED)


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        for member in group.exceptions:
            yield from _leaves(member)
    else:
        yield exc
