"""Parts of the API that most sandboxes never use: imported when somebody first asks for them.

What is imported at the start, every sandbox pays for, in time and in memory. So here, and only
here, imports stand in functions.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore_daemon.inside.paths import Paths
    from longshore_daemon.inside.processes import Processes
    from longshore_daemon.inside.sandbox import Sandbox
    from longshore_daemon.inside.server import Route
    from longshore_daemon.inside.stream import Stream


async def serve_calls(sandbox: Sandbox, stream: Stream) -> None:
    """Serve gRPC on a connection."""
    from longshore_daemon.inside.calls import Calls

    await Calls(sandbox).serve(stream)


class Areas:
    """Routes by the first part of their path, but for what is dear even among those."""

    __slots__ = ("_loaded", "_paths", "_processes")

    def __init__(self, processes: Processes, paths: Paths) -> None:
        self._processes = processes
        self._paths = paths
        self._loaded: dict[str, tuple[Route, ...]] = {}

    def routes(self, path: str) -> tuple[Route, ...]:
        """Those among which the one for a path is, if it is among any."""
        name = path if path == "files/watch" else path.partition("/")[0]
        if name not in self._loaded and (routes := self._load(name)):
            self._loaded[name] = routes
        return self._loaded.get(name, ())

    def _load(self, name: str) -> tuple[Route, ...]:
        if name == "pty":
            from longshore_daemon.inside.terminal_routes import TerminalRoutes

            return TerminalRoutes(self._processes).table()
        if name == "files":
            from longshore_daemon.inside.entry_routes import EntryRoutes

            return EntryRoutes(self._paths).table()
        if name == "files/watch":
            from longshore_daemon.inside.watch_routes import WatchRoutes

            return WatchRoutes(self._paths).table()
        if name == "tunnels":
            from longshore_daemon.inside.tunnel_routes import TunnelRoutes

            return TunnelRoutes().table()
        return ()
