"""The user processes: started, reaped, ended and remembered.

Each leads a session and a process group of its own, and signals go to the group: what a shell has
started ends with it. Statuses are taken by first looking who has ended, without taking anything;
so neither a child of ours nor, for PID 1, an adopted one is ever reaped in place of another. That
needs no descriptors of processes, which not every sandboxed kernel has.
"""

from __future__ import annotations

import os
from time import monotonic

from longshore_daemon.inside.group import Group
from longshore_daemon.inside.kin import Kin
from longshore_daemon.inside.loop import READ, Wait, pause
from longshore_daemon.inside.output import PIECE, Output
from longshore_daemon.inside.process import Command, Process
from longshore_daemon.inside.signals import SIGKILL, SIGTERM
from longshore_daemon.inside.spawn import Pipes, SpawnError, execute, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore_daemon.inside.loop import Loop
    from longshore_daemon.inside.store import Store

KEPT_OF_EACH = 2 << 30
"""How many bytes of each stream are kept."""
_KEPT = 1000
"""How many ended processes are remembered, with their output."""
_SAME_SECONDS = 0.1
"""What was seen of all processes is good for so long, when many ask for it at once."""
_POLL_SECONDS = 0.02
_KILL_SECONDS = 2.0
_CLD_EXITED = 1


class Processes:
    """The table of them. They inherit `env`; their output is kept in `store`, up to a limit for
    each stream. Those that have ended make room there, the oldest first."""

    def __init__(
        self,
        loop: Loop,
        env: Mapping[str, str],
        store: Store,
        output_limit: int = KEPT_OF_EACH,
    ) -> None:
        self.env = dict(env)
        self._store = store
        self._store.make_room = self._forget_oldest
        self._output_limit = output_limit
        self.stopping = False
        self.others: dict[int, Group] = {}
        """Leaders that are not in the table, by pid: reaped here, and ended with the rest."""
        self.loop = loop
        self._table: dict[int, Process] = {}
        self._null = _open_null()
        self._kin: Kin | None = None
        self._looked_at = 0.0

    def all(self) -> list[Process]:
        return list(self._table.values())

    def get(self, pid: int) -> Process | None:
        return self._table.get(pid)

    def named(self, name: str) -> Process | None:
        """The last that was started under a name."""
        found = [process for process in self._table.values() if process.command.name == name]
        return found[-1] if found else None

    def spawn(self, command: Command) -> Process:
        """Start it. Raises SpawnError."""
        if self.stopping:
            raise SpawnError(f"cannot start {command.command!r}: the sandbox is stopping")
        pipes = Pipes()
        try:
            pipes.open(command, self._null)
            started = execute(command, {**self.env, **command.env}, pipes.actions)
        except OSError as exc:
            pipes.close()
            raise explain(command, exc) from exc
        pipes.release()
        output = Output(self._store, self._output_limit)
        process = Process(started, command, output, pipes.stdin)
        self._remember(process)
        for descriptor, stream in pipes.outputs.items():
            process.pipes[descriptor] = stream
            output.sources += 1
            self.loop.start(self._capture(process, descriptor))
        output.close_unless_fed()
        if command.timeout is not None:
            self.loop.start(self._limit(process, monotonic() + command.timeout))
        return process

    def _remember(self, process: Process) -> None:
        ended = [known.pid for known in self._table.values() if not known.running]
        surplus = ended[: max(0, len(ended) - _KEPT)]
        for pid in {process.pid, *surplus} & self._table.keys():
            self._table.pop(pid).output.remove()
        self._table[process.pid] = process

    def _forget_oldest(self) -> bool:
        """Of those that have ended and take room; whether there is one."""
        for process in self._table.values():
            if not process.running and process.output.kept:
                self._table.pop(process.pid).output.remove()
                return True
        return False

    async def _capture(self, process: Process, descriptor: int) -> None:
        while (length := process.read_once(descriptor)) != 0:
            # One that writes without end must not be all that there is. After less than was asked
            # for, though, the pipe was empty: what comes now may come after what others write.
            await (pause() if length == PIECE else Wait((descriptor, READ)))
        del process.pipes[descriptor]
        os.close(descriptor)
        process.output.source_ended()

    async def end(self, process: Process, grace_seconds: float) -> None:
        """Ask it to end, kill what is left of it after the grace, and wait until it has ended."""
        deadline = monotonic() + grace_seconds
        if process.running:
            process.ask_to_end()
        while process.running and await Wait(bells=(process.changed,), deadline=deadline):
            continue
        process.kill()
        while process.running:
            await Wait(bells=(process.changed,))

    async def _limit(self, process: Process, deadline: float) -> None:
        """Kill it in the end; also what it has left behind, if it has ended by itself."""
        while process.running and await Wait(bells=(process.changed,), deadline=deadline):
            continue
        if process.running:
            process.timed_out = True
        else:
            # One look, at the next full second, is for all that have ended in the one before.
            await Wait(deadline=min(deadline, monotonic() // 1 + 2))
            if not process.has_left(self._seen_lately()):
                return
            await Wait(deadline=deadline)
        process.kill()

    def _seen_lately(self) -> Kin | None:
        if monotonic() > self._looked_at + _SAME_SECONDS:
            self._kin, self._looked_at = _look_around(), monotonic()
        return self._kin

    def reap(self) -> None:
        """Take the status of every child that has ended, our own and adopted ones."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            group = self._running(found.si_pid)
            if group is not None:
                group.collect()
            os.waitid(os.P_PID, found.si_pid, os.WEXITED)
            if group is not None:
                exited = found.si_code == _CLD_EXITED
                status = found.si_status
                group.end(status if exited else None, None if exited else status)

    def _running(self, pid: int) -> Group | None:
        """Whose number that is: those who had it before and have ended may still be known."""
        known = (self.others.get(pid), self._table.get(pid))
        return next((group for group in known if group is not None and group.running), None)

    async def stop(self, grace_seconds: float) -> None:
        """End them all: SIGTERM to every group, SIGKILL to what is left after the grace."""
        self.stopping = True
        self._signal_all(SIGTERM)
        await self._wait_until_empty(grace_seconds)
        self._signal_all(SIGKILL)
        # Killed ones end by themselves; only a kernel in trouble takes longer.
        await self._wait_until_empty(_KILL_SECONDS)

    def _groups(self) -> tuple[Group, ...]:
        return (*self._table.values(), *self.others.values())

    def _signal_all(self, number: int) -> None:
        kin = _look_around()
        for group in self._groups():
            try:
                if number == SIGKILL:
                    group.kill(kin)
                else:
                    group.ask_to_end(kin)
            except PermissionError:
                continue
        if os.getpid() == 1:
            try:
                os.kill(-1, number)
            except ProcessLookupError:
                return

    async def _wait_until_empty(self, seconds: float) -> None:
        """Polled, because what is left of a group may be nobody's child here."""
        deadline = monotonic() + seconds
        while self._somebody_left() and monotonic() < deadline:
            await Wait(deadline=min(deadline, monotonic() + _POLL_SECONDS))

    def _somebody_left(self) -> bool:
        if os.getpid() == 1:
            try:
                os.kill(-1, 0)
            except ProcessLookupError:
                return False
            return True
        if any(group.running for group in self._groups()):
            return True
        left = [group.pid for group in self._groups() if group.send_signal(0)]
        try:
            # Ended ones whom nobody has reaped yet are still in the group.
            return bool(left) and any(map(Kin().has_session, left))
        except OSError:
            return True


def _look_around() -> Kin | None:
    try:
        return Kin()
    except OSError:
        return None


def _open_null() -> int:
    try:
        return os.open("/dev/null", os.O_RDWR)
    except OSError:
        return -1
