"""The routes, as the worker's feed tells them.

Pure: bytes of the feed in, a table out. One owner changes it; a request looks its route up once
and keeps what it found, so that no change touches a connection in progress.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, cast

from longshore_core._errors import BackendError

RUNNING: Final = "running"
_PREFERENCE: Final = (RUNNING, "pending", "stopping", "terminated")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_VERSION: Final = 1


class FeedBroken(BackendError):
    """The feed cannot be followed any further: a number is missing, or a line cannot be read."""

    code = "ROUTE_FEED_BROKEN"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One container, as far as routing is concerned."""

    id: str
    sandbox_id: str | None = None
    status: str
    """`running`, or why not: `pending`, `stopping`, `terminated`."""
    dir: str | None = None
    """Where the guest's sockets are; `None`: there is no way in."""
    token: str | None = field(default=None, repr=False)


class RouteTable:
    """Routes by the id of the container, then of the sandbox."""

    def __init__(self) -> None:
        self.known = False
        """Whether the worker has told its routes at least once."""
        self._routes: dict[str, Route] = {}
        self._sandboxes: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._routes)

    def lookup(self, name: str) -> Route | None:
        """The route of that container, else of that sandbox: of several, the one that runs."""
        route = self._routes.get(name)
        if route is not None:
            return route
        containers = self._sandboxes.get(name)
        if not containers:
            return None
        # Of equals, the one that came last.
        routes = [self._routes[container] for container in reversed(containers)]
        return min(routes, key=_rank)

    def reset(self, routes: list[Route]) -> None:
        """Replace the whole table."""
        self.known = True
        self._routes.clear()
        self._sandboxes.clear()
        for route in routes:
            self.put(route)

    def put(self, route: Route) -> None:
        """Add a route, or replace that of the same container."""
        self.drop(route.id)
        self._routes[route.id] = route
        if route.sandbox_id is not None:
            self._sandboxes.setdefault(route.sandbox_id, []).append(route.id)

    def drop(self, container: str) -> None:
        """Forget a container. One that is not there is no matter."""
        route = self._routes.pop(container, None)
        if route is None or route.sandbox_id is None:
            return
        containers = self._sandboxes[route.sandbox_id]
        containers.remove(container)
        if not containers:
            del self._sandboxes[route.sandbox_id]


def _rank(route: Route) -> int:
    return _PREFERENCE.index(route.status) if route.status in _PREFERENCE else len(_PREFERENCE)


class FeedReader:
    """One connection to the feed: checks the numbers, and applies each line to the table."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._seq: int | None = None

    @property
    def followed(self) -> bool:
        """Whether this connection has brought the whole table."""
        return self._seq is not None

    def apply(self, line: bytes) -> int:
        """Apply one line; the answer is the number to acknowledge. Raises FeedBroken."""
        try:
            message = json.loads(line)
        except ValueError as exc:
            raise FeedBroken(f"a line of the route feed is not JSON: {exc}") from exc
        if not isinstance(message, dict):
            raise FeedBroken("a line of the route feed is not an object")
        delta = cast("dict[str, Any]", message)  # a JSON object has strings for keys
        seq = delta.get("seq")
        if not isinstance(seq, int):
            raise FeedBroken("a line of the route feed has no number")
        if "reset" in delta:
            if delta.get("v") != _VERSION:
                raise FeedBroken(f"the route feed is of version {delta.get('v')!r}, not {_VERSION}")
            routes = [_route(item) for item in _list(delta["reset"])]
            self._table.reset(routes)
        else:
            self._apply_delta(seq, delta)
        self._seq = seq
        return seq

    def _apply_delta(self, seq: int, delta: dict[str, Any]) -> None:
        if self._seq is None:
            raise FeedBroken("the route feed did not begin with the whole table")
        if seq != self._seq + 1:
            raise FeedBroken(f"the route feed went from {self._seq} to {seq}")
        if "put" in delta:
            self._table.put(_route(delta["put"]))
        elif "drop" in delta:
            self._table.drop(str(delta["drop"]))
        else:
            raise FeedBroken(f"line {seq} of the route feed has neither put nor drop")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FeedBroken("the reset of the route feed is not a list")
    # Its items are checked one by one. mypy has narrowed it already, pyright has not.
    return cast("list[Any]", value)  # type: ignore[redundant-cast]


def _route(value: Any) -> Route:
    if not isinstance(value, dict):
        raise FeedBroken("a route is not an object")
    fields = cast("dict[str, Any]", value)  # a JSON object has strings for keys
    container, status = fields.get("id"), fields.get("status")
    if not isinstance(container, str) or not isinstance(status, str):
        raise FeedBroken("a route lacks its id or its status")
    texts = [fields.get(name) for name in ("sandbox_id", "dir", "token")]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise FeedBroken(f"the route of {container} has a field that is not text")
    sandbox_id, directory, token = texts
    if token is not None and _TOKEN.fullmatch(token) is None:
        raise FeedBroken(f"the route of {container} has a token that cannot be sent")
    return Route(id=container, sandbox_id=sandbox_id, status=status, dir=directory, token=token)
