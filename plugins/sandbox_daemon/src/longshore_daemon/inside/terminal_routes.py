"""The routes under /api/v1/pty."""

from __future__ import annotations

from _operator import _compare_digest as compare_digest  # pyright: ignore[reportPrivateUsage]

from longshore_daemon.inside.channel import upgrade
from longshore_daemon.inside.exchange import ApiError, Exchange
from longshore_daemon.inside.fields import Fields
from longshore_daemon.inside.jsontext import dumps
from longshore_daemon.inside.keys import asked_of, started_before
from longshore_daemon.inside.process_routes import read_command, refuse_when_stopping
from longshore_daemon.inside.spawn import SpawnError
from longshore_daemon.inside.terminal import Size
from longshore_daemon.inside.terminal_client import Client
from longshore_daemon.inside.terminals import Terminals, TooManySessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.jsontext import JSON
    from longshore_daemon.inside.processes import Processes
    from longshore_daemon.inside.server import Route
    from longshore_daemon.inside.terminal import Terminal

_ROWS, _COLUMNS = 24, 80
_NO_TOKEN = "0" * 64


class TerminalRoutes:
    __slots__ = ("_processes", "_terminals")

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._terminals = Terminals(processes.loop, processes)

    def table(self) -> tuple[Route, ...]:
        return (
            ("POST", "pty", self.create),
            ("GET", "pty", self.show_all),
            ("GET", "pty/*", self.show),
            ("DELETE", "pty/*", self.delete),
            ("POST", "pty/*/resize", self.resize),
            ("GET", "pty/*/ws", self.attach),
        )

    async def create(self, exchange: Exchange) -> None:
        body = await exchange.receive_json()
        asked = asked_of(exchange, dumps(body))
        terminal = started_before(self._terminals.all(), asked)
        if terminal is None:
            terminal = self._open(Fields(body))
            terminal.asked = asked
        await exchange.answer(201, {"session_id": terminal.id, "token": terminal.token})

    def _open(self, fields: Fields) -> Terminal:
        command = read_command(fields)
        size = Size(fields.integer("rows", _ROWS), fields.integer("cols", _COLUMNS))
        refuse_when_stopping(self._processes)
        try:
            return self._terminals.open(command, size)
        except TooManySessions as exc:
            raise ApiError(429, "TOO_MANY_SESSIONS", str(exc), retryable=True) from exc
        except SpawnError as exc:
            raise ApiError(400, "SPAWN_FAILED", str(exc), retryable=exc.retryable) from exc

    async def show_all(self, exchange: Exchange) -> None:
        shown: list[JSON] = [terminal.info() for terminal in self._terminals.all()]
        await exchange.answer(200, {"sessions": shown})

    async def show(self, exchange: Exchange, session_id: str) -> None:
        await exchange.answer(200, self._find(session_id).info())

    async def delete(self, exchange: Exchange, session_id: str) -> None:
        """Hang up on it, and kill it when it does not end by that."""
        self._terminals.end(self._find(session_id))
        await exchange.answer_nothing()

    async def resize(self, exchange: Exchange, session_id: str) -> None:
        terminal = self._find(session_id)
        fields = Fields(await exchange.receive_json())
        terminal.resize(Size(fields.integer("rows"), fields.integer("cols")))
        await exchange.answer_nothing()

    async def attach(self, exchange: Exchange, session_id: str) -> None:
        """Look on, and type. Whether there is such a session, only its token's bearer learns."""
        given = exchange.head.headers.get("x-pty-token") or exchange.head.query.get("token", "")
        terminal = self._terminals.get(session_id)
        token = _NO_TOKEN if terminal is None else terminal.token
        right = compare_digest(token.encode(), given.encode("utf-8", "replace"))
        if terminal is None or not right:
            raise ApiError(403, "INVALID_TOKEN", "Invalid token")
        await Client(await upgrade(exchange), terminal).serve()

    def _find(self, session_id: str) -> Terminal:
        terminal = self._terminals.get(session_id)
        if terminal is None:
            raise ApiError(404, "NOT_FOUND", f"PTY session {_shown(session_id)} not found")
        return terminal


def _shown(session_id: str) -> str:
    return session_id.encode("utf-8", "replace").decode("utf-8")
