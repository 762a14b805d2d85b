"""The routes under /api/v1/processes, but for output."""

from __future__ import annotations

from time import monotonic

from longshore_daemon.inside.environment import is_me
from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.fields import Fields
from longshore_daemon.inside.jsontext import dumps
from longshore_daemon.inside.keys import asked_of, started_before
from longshore_daemon.inside.process import Command, Process, Stdin, StdinClosed
from longshore_daemon.inside.signals import HIGHEST
from longshore_daemon.inside.spawn import SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.processes import Processes


_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_NAME_LIMIT = 128
_MANAGED = ("restart", "health_check", "runtime")
"""What clients of the field can ask of a process, and nobody does for it here."""
_RESTART_SECONDS = 10.0
"""Between SIGTERM and SIGKILL for one that is restarted."""
_STDIN_SECONDS = 20.0
"""How long a process may leave a piece of its input. Who is on the way to here has patience for a
minute, and a second piece may wait behind the first."""
_HANGING_SECONDS = 86400.0
"""For who does not know what an answer in part means, and would take it for a whole one:
connections on the way end before."""


def read_command(fields: Fields) -> Command:
    """What a request asks to be started. Raises ApiError 400, 422 or 501."""
    fields.refuse(*_MANAGED)
    command = Command(fields.required_text("command"), fields.texts("args"))
    command.env = fields.environment("env")
    command.working_dir = fields.text("working_dir")
    user = fields.text("user")
    if user and not is_me(user):
        raise ApiError(400, "UNSUPPORTED_USER", f"processes cannot be started as user {user!r}")
    return command


def refuse_when_stopping(processes: Processes) -> None:
    """Raises ApiError 503."""
    if processes.stopping:
        raise ApiError(503, "STOPPING", "the sandbox is stopping", retryable=False)


def spawn(processes: Processes, command: Command) -> Process:
    """Start it. Raises ApiError 400, or 503 when the sandbox is stopping."""
    refuse_when_stopping(processes)
    try:
        return processes.spawn(command)
    except SpawnError as exc:
        raise ApiError(400, "SPAWN_FAILED", str(exc), retryable=exc.retryable) from exc


async def start(
    processes: Processes, exchange: Exchange, read: Callable[[Fields], Command]
) -> Process:
    """What a request asks to be started; or what one has started that had the same key.

    Raises ApiError 400, 409, 422, 501 or 503.
    """
    body = await exchange.receive_json()
    asked = asked_of(exchange, dumps(body))
    process = started_before(processes.all(), asked)
    if process is None:
        process = spawn(processes, read(Fields(body)))
        process.asked = asked
    return process


def read_run(fields: Fields) -> Command:
    """A command that will be followed at once. Raises ApiError 400, 422 or 501."""
    command = read_command(fields)
    command.timeout = fields.positive("timeout")
    return command


def find(processes: Processes, pid: str) -> Process:
    """By its pid, or by its name. Raises ApiError 404."""
    number = int(pid) if pid.isdecimal() and len(pid) < 12 else -1
    process = processes.get(number) or processes.named(pid)
    if process is None:
        raise ApiError(404, "NOT_FOUND", f"Process {pid} not found")
    return process


class ProcessRoutes:
    __slots__ = ("_processes", "_stdin_seconds")

    def __init__(self, processes: Processes, stdin_seconds: float = _STDIN_SECONDS) -> None:
        self._processes = processes
        self._stdin_seconds = stdin_seconds

    async def create(self, exchange: Exchange) -> None:
        process = await start(self._processes, exchange, self._read)
        await exchange.answer(201, process.info())

    def _read(self, fields: Fields) -> Command:
        command = read_run(fields)
        command.stdin = fields.choice("stdin_mode", "closed", "pipe") == "pipe"
        command.stdout = fields.choice("stdout_mode", "capture", "discard") == "capture"
        command.stderr = fields.choice("stderr_mode", "capture", "discard") == "capture"
        command.name = self._read_name(fields)
        return command

    def _read_name(self, fields: Fields) -> str | None:
        name = fields.text("name")
        if name is None:
            return None
        if not _NAME.issuperset(name) or not 0 < len(name) <= _NAME_LIMIT or name.isdigit():
            message = "name: up to 128 letters, digits and ._- are wanted, not digits alone"
            raise ApiError(422, "INVALID_REQUEST", message)
        taken = self._processes.named(name)
        if taken is not None and taken.running:
            message = f"process {taken.pid} is running as {name!r}"
            raise ApiError(409, "NAME_TAKEN", message)
        return name

    async def restart(self, exchange: Exchange, pid: str) -> None:
        """End it, if it runs, and start the same again: another process, of the same name."""
        asked = asked_of(exchange, pid.encode("utf-8", "replace"))
        again = started_before(self._processes.all(), asked)
        if again is None:
            process = find(self._processes, pid)
            await self._end(process)
            # Of two that ask at once, the other one may have been here first.
            again = started_before(self._processes.all(), asked) or self._start_again(process)
            again.asked = asked
        await exchange.answer(200, again.info())

    async def _end(self, process: Process) -> None:
        refuse_when_stopping(self._processes)
        try:
            await self._processes.end(process, _RESTART_SECONDS)
        except PermissionError as exc:
            message = f"Process {process.pid} may not be signalled"
            raise ApiError(403, "PERMISSION_DENIED", message) from exc

    def _start_again(self, process: Process) -> Process:
        name = process.command.name
        current = self._processes.named(name) if name is not None else None
        if current is not None and current is not process and current.running:
            raise ApiError(409, "NAME_TAKEN", f"process {current.pid} is running as {name!r}")
        return spawn(self._processes, process.command)

    async def show_all(self, exchange: Exchange) -> None:
        shown: list[JSON] = [process.info() for process in self._processes.all()]
        await exchange.answer(200, {"processes": shown})

    async def show(self, exchange: Exchange, pid: str) -> None:
        await exchange.answer(200, find(self._processes, pid).info())

    async def delete(self, exchange: Exchange, pid: str) -> None:
        """Kill it and its group. It stays listed, so that its output can still be read."""
        find(self._processes, pid).kill()
        await exchange.answer_nothing()

    async def send_signal(self, exchange: Exchange, pid: str) -> None:
        process = find(self._processes, pid)
        number = Fields(await exchange.receive_json()).integer("signal")
        if not 0 < number <= HIGHEST:
            raise ApiError(400, "INVALID_SIGNAL", f"Invalid signal number: {number}")
        try:
            delivered = process.running and process.send_signal(number)
        except PermissionError as exc:
            message = f"Process {pid} may not be signalled"
            raise ApiError(403, "PERMISSION_DENIED", message) from exc
        if not delivered:
            raise ApiError(400, "NOT_RUNNING", f"Process {pid} is not running")
        await exchange.answer(200, {"success": True})

    async def write_stdin(self, exchange: Exchange, pid: str) -> None:
        stdin = find(self._processes, pid).stdin
        if stdin is None:
            raise ApiError(400, "STDIN_NOT_WRITABLE", "Process stdin is not writable")
        taken = 0
        knows = "longshore-partial-input" in exchange.head.headers
        seconds = self._stdin_seconds if knows else _HANGING_SECONDS
        if whole := await stdin.take_turn(monotonic() + seconds):
            try:
                whole, taken = await self._pass_on(exchange, stdin, seconds)
            except StdinClosed as exc:
                raise ApiError(400, "STDIN_NOT_WRITABLE", str(exc)) from exc
            finally:
                stdin.end_turn()
        if whole:
            await exchange.answer_nothing()
        else:
            exchange.leave_body()
            told = ("Longshore-Bytes-Written", str(taken))
            await exchange.answer(202, {"bytes_written": taken}, told)

    async def _pass_on(self, exchange: Exchange, stdin: Stdin, seconds: float) -> tuple[bool, int]:
        """Whether the process has taken all of the body, and how much. Raises StdinClosed."""
        taken = 0
        while data := await exchange.receive():
            deadline = monotonic() + seconds
            length = await stdin.write(data, exchange.stream.gone, deadline)
            taken += length
            if length < len(data):
                return False, taken
        if not stdin.writable:
            raise StdinClosed("Process stdin is closed")
        return True, taken

    async def close_stdin(self, exchange: Exchange, pid: str) -> None:
        stdin = find(self._processes, pid).stdin
        if stdin is None:
            raise ApiError(400, "STDIN_NOT_WRITABLE", "Process stdin is not writable")
        stdin.close()
        await exchange.answer_nothing()
