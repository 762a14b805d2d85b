"""Starting a shim, and hearing whether it could start PID 1."""

from __future__ import annotations

import errno
import marshal
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from longshore_core import BackendError

from longshore_forkexec import shim
from longshore_forkexec.processes import COOKIE, Process, child

if TYPE_CHECKING:
    from longshore_forkexec.shim import Order

PASSING: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOSPC})
"""What may be otherwise the next time."""

_LIBRARIES: Final = ("LD_LIBRARY_PATH",)
_CATCHABLE: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Spawned:
    """A shim that was just started, and the pipe on which it will report."""

    shim: Process
    report: int


def spawn(order: Order, cookie: str) -> Spawned:
    """Start a shim in a session of its own. Blocking. Raises OSError.

    The caller closes `report`. Nothing of the order is in argv, where every user could read it.
    """
    report, tell = os.pipe()
    os.set_blocking(report, False)
    try:
        with _in_memory(marshal.dumps(_plain(order))) as given:
            pid = _spawn(given, tell, log=f"{order['directory']}/{shim.LOG}", cookie=cookie)
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(tell)
    return Spawned(child(pid), report)


def _spawn(given: int, tell: int, *, log: str, cookie: str) -> int:
    # The interpreter may need libraries from where the worker found them.
    libraries = {name: os.environ[name] for name in _LIBRARIES if name in os.environ}
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", shim.__file__],
        {COOKIE: cookie, **libraries},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, given, 0),
            (os.POSIX_SPAWN_DUP2, tell, 1),
            (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_CATCHABLE,
    )


async def hear(report: int) -> str:
    """What the shim reports, in full. Closes nothing."""
    heard = bytearray()
    while True:
        await anyio.wait_readable(report)
        if not (data := os.read(report, 4096)):
            return heard.decode(errors="replace")
        heard += data


def refusal(container: str, report: str) -> BackendError:
    """The error for a report that is not `ready`: an error number and a sentence, or a trace of
    a shim that broke."""
    number, _, sentence = report.partition(" ")
    if number.isdecimal():
        return BackendError(f"container {container}: {sentence}", retryable=int(number) in PASSING)
    return BackendError(f"container {container}: its shim broke: {report or 'it said nothing'}")


def _plain(order: Order) -> dict[str, Any]:
    return cast("dict[str, Any]", order)  # that is what a TypedDict is, though no checker says so


@contextmanager
def _in_memory(data: bytes) -> Generator[int, None, None]:
    """A file that holds the data: unlike a pipe it takes any size, and nobody need be there."""
    descriptor = os.memfd_create("order")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
