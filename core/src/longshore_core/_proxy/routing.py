"""Which container, and which of its ports, a request is for. Pure.

The sandbox is named by a header, else by the host; its port by a header, else by the host, else it
is 9501. Two that contradict each other are refused, and so is a port that is not one: never is a
request sent somewhere that its caller did not mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from longshore_core._errors import RequestError
from longshore_core._heads import RequestHead
from longshore_core._proxy.answers import (
    CONNECTION_REFUSED,
    CONTRADICTING_IDS,
    INVALID_SANDBOX_PORT,
    MISSING_SANDBOX_ID,
    PORT_NOT_ROUTABLE,
    ROUTES_UNKNOWN,
    SANDBOX_NOT_FOUND,
    Refusal,
    not_running,
    refusal_of,
)
from longshore_core._proxy.framing import connection_options, hop_by_hop, upgrade_asked
from longshore_core._proxy.grammar import bad_request
from longshore_core._proxy.table import RUNNING, Route, RouteTable

API_PORT: Final = 9501
"""What callers know the guest's own API as; it is a Unix socket."""
CONTROL_PORT: Final = 9500
"""Where the guest's control used to be: never for callers."""
DOMAINS: Final = ("local", "localhost", "*.nip.io", "*.sslip.io")
TOKEN_HEADER: Final = b"Longshore-Sandbox-Token"

_ID_HEADERS: Final = (b"tensorlake-sandbox-id", b"x-tensorlake-sandbox-id")
_PORT_HEADERS: Final = (b"tensorlake-sandbox-port", b"x-tensorlake-sandbox-port")
_OURS: Final = (*_ID_HEADERS, *_PORT_HEADERS, TOKEN_HEADER.lower())
_ID_LIMIT: Final = 256
_PORT_LABEL: Final = re.compile(r"([0-9]{1,5})-(.+)")
_ABSOLUTE: Final = re.compile(rb"[hH][tT][tT][pP]://([^/?#@]+)([/?].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Where a request goes, and what its head is there."""

    sandbox_id: str
    """As the caller named it."""
    route: Route
    port: int
    head: RequestHead
    upgrade: bool
    """The head asks for another protocol on this connection."""

    @property
    def address(self) -> str:
        """For the log."""
        if self.port == API_PORT:
            return f"unix:{self.route.dir}/http.sock"
        return f"{self.route.id}:{self.port}"


Decision: TypeAlias = Forward | Refusal


def route(head: RequestHead, table: RouteTable, domains: tuple[str, ...] = DOMAINS) -> Decision:
    """Decide about one request, by its head and the table alone."""
    try:
        head = _origin_form(head)
        options = connection_options(head)
        upgrade = upgrade_asked(head, options)
        stripped = head.without(*_OURS, *hop_by_hop(options))
    except RequestError as exc:
        return refusal_of(exc)
    if upgrade is not None:
        stripped = stripped.with_((b"Connection", b"Upgrade"), (b"Upgrade", upgrade))
    target = _target(head, table, domains)
    if isinstance(target, Refusal):
        return target
    sandbox_id, found, port = target
    if port == API_PORT and found.token is not None:
        stripped = stripped.with_((TOKEN_HEADER, found.token.encode()))
    return Forward(
        sandbox_id=sandbox_id,
        route=found,
        port=port,
        head=stripped,
        upgrade=upgrade is not None,
    )


def _origin_form(head: RequestHead) -> RequestHead:
    """The same request as an origin server is asked. Raises RequestError."""
    target = head.target
    if target.startswith(b"/") or (target == b"*" and head.method == b"OPTIONS"):
        return head
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise bad_request("The target must be a path")
    path = absolute[2] or b"/"
    if not path.startswith(b"/"):
        path = b"/" + path
    # What the target names counts, and not Host (RFC 9112, section 3.2.2).
    return head.with_target(path).with_((b"Host", absolute[1]))


def _target(
    head: RequestHead, table: RouteTable, domains: tuple[str, ...]
) -> tuple[str, Route, int] | Refusal:
    """The sandbox as it was named, its route, and the port."""
    names, ports = _said(head, _ID_HEADERS), _said(head, _PORT_HEADERS)
    label = _label(head, domains)
    if not names and label is None:
        return MISSING_SANDBOX_ID
    if len(names) > 1 or not all(name.isascii() and len(name) <= _ID_LIMIT for name in names):
        return CONTRADICTING_IDS
    if len(ports) > 1:
        return INVALID_SANDBOX_PORT
    if not table.known:
        return ROUTES_UNKNOWN
    hosted, hosted_port = _split(label, table) if label is not None else (None, None)
    sandbox_id = names.pop().decode() if names else (hosted or "")
    found = table.lookup(sandbox_id)
    asked = ports.pop() if ports else None
    if asked is None and hosted_port is not None and table.lookup(hosted or "") is found:
        # A host that names another sandbox than the header says nothing about this one's port.
        asked = hosted_port
    port = _port(asked)
    if port is None:
        return INVALID_SANDBOX_PORT.about(sandbox_id)
    refusal = _refusal(found, port)
    if refusal is not None or found is None:
        return (refusal or SANDBOX_NOT_FOUND).about(sandbox_id, port)
    return sandbox_id, found, port


def _refusal(found: Route | None, port: int) -> Refusal | None:
    if found is None:
        return SANDBOX_NOT_FOUND
    if port == CONTROL_PORT:
        return PORT_NOT_ROUTABLE
    if found.status != RUNNING:
        return not_running(found.status)
    return CONNECTION_REFUSED if found.dir is None else None


def _said(head: RequestHead, names: tuple[bytes, ...]) -> set[bytes]:
    """The different values under these names; one that is empty says nothing."""
    return {value for name in names for value in head.get_all(name) if value}


def _label(head: RequestHead, domains: tuple[str, ...]) -> str | None:
    """The first label of the host, when the rest is a domain under which sandboxes are served."""
    host = (head.get(b"host") or b"").decode("latin-1").partition(":")[0]
    label, _, rest = host.partition(".")
    if not label or not rest:
        return None
    rest = rest.lower()
    for domain in domains:
        if rest == domain or (domain.startswith("*.") and rest.endswith(domain[1:])):
            return label
    return None


def _split(label: str, table: RouteTable) -> tuple[str, bytes | None]:
    """A label's sandbox and port. An id may itself look like a port and an id: it goes first."""
    match = _PORT_LABEL.fullmatch(label)
    if match is None or table.lookup(label) is not None:
        return label, None
    return match[2], match[1].encode()


def _port(asked: bytes | None) -> int | None:
    if asked is None:
        return API_PORT
    # `int` would also take signs, white space and underscores.
    port = int(asked) if asked.isdigit() and len(asked) <= 5 else 0
    return port if 1 <= port <= 65535 else None
