"""Starting one process: its pipes, its place, and what went wrong in words."""

from __future__ import annotations

import errno
import os

from longshore_daemon.inside import descriptors
from longshore_daemon.inside.environment import find_command
from longshore_daemon.inside.kin import MARK, new_mark
from longshore_daemon.inside.output import STDERR, STDOUT
from longshore_daemon.inside.signals import ALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore_daemon.inside.group import Started
    from longshore_daemon.inside.process import Command

    Action = tuple[int, int, int] | tuple[int, int, str, int, int]

_TRANSIENT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class SpawnError(Exception):
    """A process cannot be started. The message names the command and what the system said."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def explain(command: Command, exc: OSError) -> SpawnError:
    where = f" in {command.working_dir!r}" if command.working_dir is not None else ""
    message = f"cannot start {command.command!r}{where}: {exc.strerror}"
    return SpawnError(message, retryable=exc.errno in _TRANSIENT)


class Pipes:
    """Those of a process that is about to start: its ends, and ours."""

    __slots__ = ("_theirs", "descriptors", "outputs", "stdin")

    def __init__(self) -> None:
        self._theirs: list[int] = []
        self.descriptors: list[int] = []
        """What becomes 0, 1 and 2 of the process."""
        self.stdin: int | None = None
        self.outputs: dict[int, int] = {}
        """Our ends of what it writes: the stream, by descriptor."""

    def open(self, command: Command, null: int) -> None:
        """Make them. Without a null device, empty input and unwanted output are pipes as well."""
        if command.stdin or null < 0:
            theirs, ours = os.pipe()
            self._theirs.append(theirs)
            self.descriptors.append(theirs)
            os.set_blocking(ours, False)
            self.stdin = ours
        else:
            self.descriptors.append(null)
        for stream, wanted in ((STDOUT, command.stdout), (STDERR, command.stderr)):
            if not wanted and null >= 0:
                self.descriptors.append(null)
                continue
            ours, theirs = os.pipe()
            self._theirs.append(theirs)
            self.descriptors.append(theirs)
            os.set_blocking(ours, False)
            self.outputs[ours] = stream
        if self.stdin is not None and not command.stdin:
            os.close(self.stdin)
            self.stdin = None

    @property
    def actions(self) -> list[Action]:
        return [(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate(self.descriptors)]

    def release(self) -> None:
        """The process has its ends: let go of ours of them."""
        while self._theirs:
            os.close(self._theirs.pop())

    def close(self) -> None:
        """There is no process: let go of all."""
        self.release()
        for descriptor in self.outputs:
            os.close(descriptor)
        if self.stdin is not None:
            os.close(self.stdin)


def execute(command: Command, env: Mapping[str, str], actions: list[Action]) -> Started:
    """Start it as the leader of a new session, from its working directory. Raises OSError.

    The actions give it its descriptors, when it leads that session already.

    The directory is entered here, since posix_spawn has no word for it: there is one thread, and
    it is back before anybody looks.
    """
    home = os.open(".", os.O_PATH | os.O_DIRECTORY)
    limit = descriptors.lower()
    try:
        if command.working_dir is not None:
            os.chdir(command.working_dir)
        path = env.get("PATH", "")
        found = find_command(command.command, path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, f"not found in PATH ({path})")
        mark = new_mark()
        pid = os.posix_spawn(
            found,
            [command.command, *command.args],
            {**env, MARK: mark},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=ALL,
        )
        return pid, mark
    finally:
        descriptors.restore(limit)
        os.fchdir(home)
        os.close(home)
