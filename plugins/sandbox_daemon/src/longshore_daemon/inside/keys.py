"""Idempotency keys: a request that comes again is answered with what the first one has started."""

from __future__ import annotations

from longshore_daemon.inside.exchange import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from longshore_daemon.inside.exchange import Exchange
    from longshore_daemon.inside.group import Asked, Group

    GroupT = TypeVar("GroupT", bound=Group)

_LIMIT = 255


def asked_of(exchange: Exchange, what: bytes) -> Asked | None:
    """What a request asks, and its key; `None` when it has none. Raises ApiError 400."""
    key = exchange.head.headers.get("idempotency-key")
    if key is None:
        return None
    if not (0 < len(key) <= _LIMIT and key.isascii() and key.isprintable()):
        message = f"Idempotency-Key: up to {_LIMIT} printable ASCII characters are wanted"
        raise ApiError(400, "BAD_REQUEST", message)
    # The sum tells apart requests that differ by mistake; it means nothing outside of this process.
    return key, hash(what)


def started_before(groups: Iterable[GroupT], asked: Asked | None) -> GroupT | None:
    """What the same request has started, if it is still listed. Raises ApiError 409 when another
    request had the key."""
    if asked is None:
        return None
    for group in groups:
        if group.asked is not None and group.asked[0] == asked[0]:
            if group.asked != asked:
                message = f"process {group.pid} was started under this key by another request"
                raise ApiError(409, "IDEMPOTENCY_MISMATCH", message)
            return group
    return None
